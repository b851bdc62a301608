"""N labels drawn at each position from softmax(z / T): an unbiased target for forward KL in a few bytes.

Draws of one position are systematic: the inverse distribution function at (j + u) / n for j < n, u uniform.
Each label's expected count is n p exactly, as with independent draws, and its variance is far smaller, since
a count is n p rounded up or down wherever labels stand together.

From a mixture of K teachers each position still has N draws in all. `allocate` says how many each makes,
from weights that are known before anyone is asked. Teacher k's own u is shifted by k / K, so that teachers
who agree do not draw the same labels again.

Shapes: N examples, R rows, V classes or vocabulary, K teachers, D draws of all rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tutelage.errors import TeacherError
from tutelage.signals.allocation import allocate, per_row
from tutelage.signals.exchange import Request
from tutelage.signals.packet import Column, Counts, Packet
from tutelage.signals.payloads.base import ColumnLayout, Decoded
from tutelage.signals.payloads.wire import (
    bad_floats,
    id_layout,
    largest_id,
    pack_floats,
    pack_ids,
    unpack_floats,
    unpack_ids,
)
from tutelage.signals.spec import PayloadSpec

CHUNK = 1 << 23
"""Probabilities held in fp64 at a time: 64 MB."""


class SampledCodec:
    """Ids of the draws, and with draws of one teacher by itself its entropy, which combiners may go by."""

    def encode(self, spec: PayloadSpec, values_RV: Tensor, lengths_N: Counts, request: Request) -> Packet:
        """Raises TeacherError for rows that are no distribution, since draws would hide it."""
        counts_R = draw_counts(spec, lengths_N, request)
        u_R = per_row(spec.seed, "draws", request.examples, lengths_N)
        if spec.mixture and request.shares_NK is not None:
            u_R = (u_R + spec.member / request.shares_NK.shape[1]) % 1.0
        ids_D = draw(values_RV, spec.temperature, counts_R, u_R)
        columns = {"ids": Column(pack_ids(ids_D, spec.width), _by_example(counts_R, lengths_N))}
        if not spec.mixture:
            columns["doubt"] = Column(pack_floats(doubt(values_RV), "fp16"), lengths_N)
        return Packet(lengths_N, columns)

    def layout(self, spec: PayloadSpec, lengths_N: Counts, request: Request) -> dict[str, ColumnLayout]:
        """As many draws of each example as the allocation says."""
        kind, tail = id_layout(spec.width)
        counts_R = draw_counts(spec, lengths_N, request)
        columns = {"ids": ColumnLayout(kind, tail, _by_example(counts_R, lengths_N))}
        if not spec.mixture:
            columns["doubt"] = ColumnLayout(np.uint16, (), lengths_N)
        return columns

    def fault(self, spec: PayloadSpec, columns: dict[str, NDArray[Any]]) -> str | None:
        """An id outside [0, V), or an entropy that none has."""
        largest = largest_id(columns["ids"], spec.width)
        if largest >= spec.width:
            return f"the label {largest} of a vocabulary of {spec.width}"
        if spec.mixture:
            return None
        found = bad_floats(columns["doubt"], "fp16")
        if found:
            return f"{found} in its doubt"
        doubt_R = unpack_floats(columns["doubt"], "fp16", "cpu")
        if len(doubt_R) and not 0 <= float(doubt_R.min()) <= float(doubt_R.max()) <= 1:
            return "a doubt outside [0, 1]"
        return None

    def decode(self, spec: PayloadSpec, packet: Packet, head_VH: Tensor | None, device: Any) -> Decoded:
        """ids int64 [D]."""
        ids = packet.columns["ids"]
        doubt_R = None
        if not spec.mixture:
            doubt_R = unpack_floats(packet.columns["doubt"].values, "fp16", device)
        ids_D = unpack_ids(ids.values, spec.width, device)
        return Decoded(packet.lengths_N, ids.rows_N, ids_D, doubt_R=doubt_R)


def draw_counts(spec: PayloadSpec, lengths_N: Counts, request: Request) -> NDArray[np.int64]:
    """Draws that the spec's teacher makes at each row, int64 [R].

    Raises ValueError for a mixture without shares.
    """
    if not spec.mixture:
        return np.full(int(lengths_N.sum()), spec.entries, np.int64)
    if request.shares_NK is None:
        raise ValueError("draws from a mixture need each teacher's shares in the request")
    return allocate(spec.seed, request.examples, lengths_N, request.shares_NK, spec.entries)[:, spec.member]


def draw(values_RV: Tensor, temperature: float, counts_R: NDArray[np.int64], u_R: NDArray[Any]) -> Tensor:
    """int64 [sum(counts_R)]: labels at the points (j + u) / n of each row's distribution, row by row."""
    widest = int(counts_R.max(initial=0))
    parts = []
    rows = max(1, CHUNK // max(1, values_RV.shape[1]))
    for begin in range(0, len(values_RV), rows):
        n_R1 = torch.from_numpy(counts_R[begin : begin + rows, None]).to(values_RV.device)
        u_R1 = torch.from_numpy(u_R[begin : begin + rows, None]).to(values_RV.device)
        points_RD = (torch.arange(widest, device=values_RV.device) + u_R1) / n_R1.clamp(min=1)
        ids_RD = _inverse(values_RV[begin : begin + rows], temperature, points_RD)
        parts.append(ids_RD[torch.arange(widest, device=values_RV.device) < n_R1])
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.long)


def _inverse(values_RV: Tensor, temperature: float, points_RD: Tensor) -> Tensor:
    """The first label whose running probability exceeds each point."""
    running_RV = torch.softmax(values_RV.float() / temperature, dim=-1).cumsum(-1, dtype=torch.float64)
    total_R1 = running_RV[:, -1:].contiguous()
    bad = int((~total_R1.isfinite()).sum())
    if bad:
        raise TeacherError(
            f"NaN or infinity in {bad} of {len(values_RV)} rows of logits, from which labels are drawn",
            fix="look at the teacher's weights and precision; bf16 or fp32 instead of fp16 often helps",
        )
    # Below the total, so that no label of probability 0 behind the last real one is found.
    below_R1 = torch.nextafter(total_R1, torch.zeros_like(total_R1))
    return torch.searchsorted(running_RV, torch.minimum(points_RD * total_R1, below_R1), right=True)


def doubt(values_RV: Tensor) -> Tensor:
    """Entropy of softmax(z) as a share of log V, fp32 [R]."""
    log_p_RV = torch.log_softmax(values_RV.float(), dim=-1)
    p_RV = log_p_RV.exp()
    # A label of logit -inf has p log p = 0.
    entropy_R = -torch.where(p_RV > 0, p_RV * log_p_RV, torch.zeros_like(p_RV)).sum(-1)
    return (entropy_R / float(np.log(values_RV.shape[-1]))).clamp(0, 1)


def _by_example(counts_R: NDArray[np.int64], lengths_N: Counts) -> Counts:
    """Sums over each example's rows."""
    running = np.concatenate([[0], np.cumsum(counts_R)])
    ends = np.cumsum(lengths_N)
    sums_N: Counts = (running[ends] - running[ends - lengths_N]).astype(np.int32)
    return sums_N
