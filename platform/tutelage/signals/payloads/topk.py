"""The k most probable labels with their log-probabilities; what is missing to 1 is one tail bucket.

Shapes: R rows, V classes or vocabulary, k entries.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tutelage.signals.exchange import Request
from tutelage.signals.packet import Column, Counts, Packet
from tutelage.signals.payloads.base import ColumnLayout, Decoded
from tutelage.signals.payloads.wire import (
    FLOATS,
    bad_floats,
    id_layout,
    pack_floats,
    pack_ids,
    unpack_floats,
    unpack_ids,
)
from tutelage.signals.spec import PayloadSpec

ROUNDING = {"fp32": 1e-5, "fp16": 2e-3, "bf16": 2e-2}
"""By how much the masses of a row may sum to more than 1 after rounding."""


def pack_topk(spec: PayloadSpec, ids_Rk: Tensor, log_p_Rk: Tensor, lengths_N: Counts) -> Packet:
    """Ids and log-probabilities [R, k] as they travel, wherever they come from."""
    columns = {
        "ids": Column(pack_ids(ids_Rk, spec.width), lengths_N),
        # Below -60000 a probability is 0 in any type, and fp16 ends at -65504.
        "log_p": Column(pack_floats(log_p_Rk.clamp(min=-60000), spec.dtype), lengths_N),
    }
    return Packet(lengths_N, columns)


class TopKCodec:
    """Ids, and log softmax(z / T) at them. fp16 suits these: it is finest near 0, where the mass is."""

    def encode(self, spec: PayloadSpec, values_RV: Tensor, lengths_N: Counts, request: Request) -> Packet:
        """The k largest, largest first."""
        scaled_RV = values_RV.float() / spec.temperature
        top_Rk, ids_Rk = scaled_RV.topk(spec.entries, dim=-1)
        log_p_Rk = top_Rk - scaled_RV.logsumexp(-1, keepdim=True)
        return pack_topk(spec, ids_Rk, log_p_Rk, lengths_N)

    def layout(self, spec: PayloadSpec, lengths_N: Counts, request: Request) -> dict[str, ColumnLayout]:
        """k ids and k numbers for each position."""
        kind, tail = id_layout(spec.width)
        return {
            "ids": ColumnLayout(kind, (spec.entries, *tail), lengths_N),
            "log_p": ColumnLayout(FLOATS[spec.dtype][1], (spec.entries,), lengths_N),
        }

    def fault(self, spec: PayloadSpec, columns: dict[str, NDArray[Any]]) -> str | None:
        """NaN or infinity, an id outside [0, V) or twice in a row, or masses that no distribution has."""
        found = bad_floats(columns["log_p"], spec.dtype)
        if found:
            return f"{found} in its log_p"
        ids_Rk = unpack_ids(columns["ids"], spec.width, "cpu").numpy()
        if ids_Rk.size and ids_Rk.max() >= spec.width:
            return f"the label {ids_Rk.max()} of a vocabulary of {spec.width}"
        if (np.diff(np.sort(ids_Rk, axis=-1), axis=-1) == 0).any():
            return "a label twice in one top-k"
        log_p_Rk = unpack_floats(columns["log_p"], spec.dtype, "cpu").numpy()
        if log_p_Rk.size and log_p_Rk.max() > 0:
            return f"a probability above 1 (log p = {log_p_Rk.max():g})"
        total_R = np.exp(log_p_Rk).sum(-1)
        if total_R.size and total_R.max() > 1 + ROUNDING[spec.dtype]:
            return f"probabilities that sum to {total_R.max():g}"
        return None

    def decode(self, spec: PayloadSpec, packet: Packet, head_VH: Tensor | None, device: Any) -> Decoded:
        """ids int64 [R, k] and log-probabilities fp32 [R, k]."""
        ids_Rk = unpack_ids(packet.columns["ids"].values, spec.width, device)
        log_p_Rk = unpack_floats(packet.columns["log_p"].values, spec.dtype, device)
        return Decoded(packet.lengths_N, packet.lengths_N, ids_Rk, log_p_Rk)
