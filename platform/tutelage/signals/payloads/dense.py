"""All numbers of a row: logits, or the last hidden state to which the student applies the teacher's head.

Shapes: R rows, V classes or vocabulary, H hidden.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tutelage.models.alignment import aligned
from tutelage.signals.exchange import Request
from tutelage.signals.packet import Column, Counts, Packet
from tutelage.signals.payloads.base import ColumnLayout, Decoded
from tutelage.signals.payloads.wire import FLOATS, bad_floats, on, pack_floats, unpack_floats
from tutelage.signals.spec import PayloadSpec

INT8_STEPS = 127


class DenseCodec:
    """Logits as fp32, bf16 or int8.

    bf16 rounds to nearest even: a relative error of at most 2^-8. int8 sends round((z - o) / s) with the
    row's own offset o = (max + min) / 2 and scale s = (max - min) / 254, both fp32: an absolute error of at
    most s / 2, that is (max - min) / 508, and what fp32 rounds away.
    """

    column = "logits"

    def encode(self, spec: PayloadSpec, values_RV: Tensor, lengths_N: Counts, request: Request) -> Packet:
        """Every value of every row."""
        if spec.dtype == "int8":
            steps_RV, scale_R2 = to_int8(values_RV)
            columns = {self.column: Column(steps_RV, lengths_N), "scale": Column(scale_R2, lengths_N)}
            return Packet(lengths_N, columns)
        return Packet(lengths_N, {self.column: Column(pack_floats(values_RV, spec.dtype), lengths_N)})

    def layout(self, spec: PayloadSpec, lengths_N: Counts, request: Request) -> dict[str, ColumnLayout]:
        """One row for each position; with int8 also [scale, offset]."""
        if spec.dtype == "int8":
            return {
                self.column: ColumnLayout(np.int8, (spec.width,), lengths_N),
                "scale": ColumnLayout(np.float32, (2,), lengths_N),
            }
        return {self.column: ColumnLayout(FLOATS[spec.dtype][1], (spec.width,), lengths_N)}

    def fault(self, spec: PayloadSpec, columns: dict[str, NDArray[Any]]) -> str | None:
        """NaN or infinity. A row of int8 with such a value has a scale that is not finite."""
        name = "scale" if spec.dtype == "int8" else self.column
        found = bad_floats(columns[name], spec.dtype)
        return f"{found} in its {self.column}" if found else None

    def decode(self, spec: PayloadSpec, packet: Packet, head_VH: Tensor | None, device: Any) -> Decoded:
        """fp32 [R, V]."""
        values = packet.columns[self.column].values
        if spec.dtype == "int8":
            scale_R2 = on(packet.columns["scale"].values, device)
            values_RV = on(values, device).float() * scale_R2[:, :1] + scale_R2[:, 1:]
        else:
            values_RV = unpack_floats(values, spec.dtype, device)
        return Decoded(packet.lengths_N, packet.lengths_N, values_RV)


class HiddenCodec(DenseCodec):
    """The last hidden state, fp32 or bf16; logits are h @ head^T, computed by the student.

    In fp32 on one machine they are the teacher's own logits up to the order of a dot product's sum.
    """

    column = "hidden"

    def decode(self, spec: PayloadSpec, packet: Packet, head_VH: Tensor | None, device: Any) -> Decoded:
        """Logits fp32 [R, V]. Raises ValueError without a head of the right width."""
        if head_VH is None or head_VH.shape[-1] != spec.width:
            given = "none" if head_VH is None else f"{tuple(head_VH.shape)}"
            raise ValueError(
                f"a hidden payload of width {spec.width} needs the teacher's head [V, H], got {given}"
            )
        hidden_RH = super().decode(spec, packet, None, device).values
        logits_RV = torch.nn.functional.linear(aligned(hidden_RH), head_VH.detach().to(device, torch.float32))
        return Decoded(packet.lengths_N, packet.lengths_N, logits_RV)


def to_int8(values_RV: Tensor) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Steps int8 [R, V], and [scale, offset] fp32 [R, 2] of each row."""
    wide_RV = values_RV.detach().double()
    low_R, high_R = wide_RV.aminmax(dim=-1)
    # Rounded to fp32 before use, since that is what the student multiplies by.
    scale_R2 = torch.stack([(high_R - low_R) / (2 * INT8_STEPS), (high_R + low_R) / 2], -1).float()
    # Equal logits have scale 0, and every step is 0 then.
    scale_R1 = scale_R2[:, :1].double()
    steps_RV = (wide_RV - scale_R2[:, 1:]) / torch.where(scale_R1 > 0, scale_R1, torch.ones_like(scale_R1))
    steps_RV = torch.nan_to_num(steps_RV).round().clamp(-INT8_STEPS, INT8_STEPS)
    return steps_RV.to(torch.int8).cpu().numpy(), scale_R2.cpu().numpy()
