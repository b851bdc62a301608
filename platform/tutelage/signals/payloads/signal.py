"""From packet to signal: a teacher's rows at the student's positions.

Shapes: N examples, P positions of the student, R rows of the teacher, V classes or vocabulary, K teachers,
k entries of a top-k, D draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tutelage.objectives.base import Dense, Draws, Signal, TopK
from tutelage.signals.allocation import allocate
from tutelage.signals.exchange import Request
from tutelage.signals.packet import Counts, Packet
from tutelage.signals.payloads.base import Decoded, Place
from tutelage.signals.payloads.registry import codec
from tutelage.signals.spec import PayloadSpec


def encode(spec: PayloadSpec, values_RV: Tensor, lengths_N: Counts, request: Request) -> Packet:
    """The teacher's side: its rows as the spec says.

    Raises ValueError for rows that are not [sum(lengths_N), spec.width], and TeacherError for rows from
    which nothing can be drawn.
    """
    shape = (int(lengths_N.sum()), spec.width)
    if tuple(values_RV.shape) != shape:
        raise ValueError(f"rows {tuple(values_RV.shape)} for a payload {spec.key}, which wants {shape}")
    return codec(spec).encode(spec, values_RV, lengths_N, request)


def decode(
    spec: PayloadSpec, packet: Packet, head_VH: Tensor | None = None, device: torch.device | str = "cpu"
) -> Decoded:
    """The student's side: the values as tensors. `head_VH` is the teacher's, which hidden alone needs."""
    return codec(spec).decode(spec, packet, head_VH, device)


def signal_of(
    spec: PayloadSpec,
    packet: Packet | None,
    student_PV: Tensor,
    examples_P: Tensor,
    place: Place,
    *,
    head: Tensor | None = None,
    examples: Sequence[bytes] | None = None,
    shares_NK: NDArray[np.floating[Any]] | None = None,
) -> Signal:
    """What the loss terms see of one teacher.

    Args:
        packet: None for a teacher that is lost; the signal then covers no position.
        student_PV: names device, P and V.
        examples_P: the example in the batch that each position belongs to; it rises.
        place: puts dense rows [R, V] at the positions.
        examples: digests of the batch's examples, for draws from a mixture.
        shares_NK: the shares of the request, for draws from a mixture.

    Raises:
        ValueError: a mixture without examples and shares, or with a packet that was drawn for other shares.
    """
    if packet is None:
        return _lost(spec, student_PV)
    decoded = decode(spec, packet, head, student_PV.device)
    if spec.kind in ("dense", "hidden"):
        return place(decoded.values, decoded.lengths_N)
    position_R, known_P = rows_to_positions(decoded.lengths_N, examples_P)
    if spec.kind == "topk":
        return _top_k(spec, decoded, position_R, known_P, len(student_PV))
    if not spec.mixture:
        return _own_draws(spec, decoded, position_R, known_P, len(student_PV))
    if examples is None or shares_NK is None:
        raise ValueError("draws from a mixture need the examples' digests and the shares of the request")
    counts_R = allocate(spec.seed, examples, decoded.lengths_N, shares_NK, spec.entries)[:, spec.member]
    if int(counts_R.sum()) != len(decoded.values):
        raise ValueError(f"{len(decoded.values)} draws where the shares of this batch give {counts_R.sum()}")
    asked_N = np.asarray(shares_NK, np.float64)
    asked_N = asked_N[:, spec.member] / asked_N.sum(1)
    return Draws(
        decoded.values,
        position_R.repeat_interleave(torch.from_numpy(counts_R).to(position_R.device)),
        torch.full((len(decoded.values),), 1 / spec.entries, device=student_PV.device),
        spec.temperature,
        mixture=True,
        known_P=known_P,
        asked_P=torch.from_numpy(asked_N.astype(np.float32)).to(student_PV.device)[examples_P],
    )


def rows_to_positions(lengths_N: Counts, examples_P: Tensor) -> tuple[Tensor, Tensor | None]:
    """The student's position of each row, int64 [R], and which positions have one (None: all).

    An example's rows are its first positions. Raises ValueError when it has more rows than positions.
    """
    positions_N = np.bincount(examples_P.cpu().numpy(), minlength=len(lengths_N))
    if len(positions_N) != len(lengths_N) or (lengths_N > positions_N).any():
        raise ValueError(f"rows {lengths_N.tolist()} for positions {positions_N.tolist()}")
    starts_N = np.cumsum(positions_N) - positions_N
    firsts_N = np.cumsum(lengths_N) - lengths_N
    position_R = np.arange(int(lengths_N.sum())) + np.repeat(starts_N - firsts_N, lengths_N)
    index_R = torch.from_numpy(position_R.astype(np.int64)).to(examples_P.device)
    if np.array_equal(positions_N, lengths_N):
        return index_R, None
    known_P = torch.zeros(len(examples_P), dtype=torch.bool, device=examples_P.device)
    known_P[index_R] = True
    return index_R, known_P


def _top_k(
    spec: PayloadSpec, decoded: Decoded, position_R: Tensor, known_P: Tensor | None, positions: int
) -> TopK:
    ids_Rk, log_p_Rk = decoded.values, decoded.log_p_Rk
    if log_p_Rk is None:
        raise ValueError("a top-k packet without log-probabilities")
    if known_P is None:
        return TopK(ids_Rk, log_p_Rk, spec.temperature)
    # Positions without a row get any k labels with equal masses: finite, and of weight 0.
    ids_Pk = torch.arange(spec.entries, device=ids_Rk.device).expand(positions, -1).clone()
    log_p_Pk = log_p_Rk.new_full((positions, spec.entries), -float(np.log(spec.entries + 1)))
    ids_Pk[position_R], log_p_Pk[position_R] = ids_Rk, log_p_Rk
    return TopK(ids_Pk, log_p_Pk, spec.temperature, known_P)


def _own_draws(
    spec: PayloadSpec, decoded: Decoded, position_R: Tensor, known_P: Tensor | None, positions: int
) -> Draws:
    doubt_P = None
    if decoded.doubt_R is not None:
        doubt_P = decoded.doubt_R.new_zeros(positions)
        doubt_P[position_R] = decoded.doubt_R
    return Draws(
        decoded.values,
        position_R.repeat_interleave(spec.entries),
        torch.full((len(decoded.values),), 1 / spec.entries, device=decoded.values.device),
        spec.temperature,
        mixture=False,
        known_P=known_P,
        doubt_P=doubt_P,
    )


def _lost(spec: PayloadSpec, student_PV: Tensor) -> Signal:
    """A signal of the spec's kind that covers no position."""
    device, positions = student_PV.device, len(student_PV)
    known_P = torch.zeros(positions, dtype=torch.bool, device=device)
    if spec.kind in ("dense", "hidden"):
        return Dense(torch.zeros(1, 1, device=device).expand(student_PV.shape), known_P)
    none = torch.zeros(0, dtype=torch.long, device=device)
    if spec.kind == "topk":
        empty = Decoded(
            np.zeros(0, np.int32), np.zeros(0, np.int32), none.view(0, 1), torch.zeros(0, 1, device=device)
        )
        return _top_k(spec, empty, none, known_P, positions)
    nothing_P = torch.zeros(positions, device=device)
    return Draws(
        none,
        none,
        torch.zeros(0, device=device),
        spec.temperature,
        mixture=bool(spec.mixture),
        known_P=known_P,
        doubt_P=None if spec.mixture else nothing_P,
        asked_P=nothing_P if spec.mixture else None,
    )
