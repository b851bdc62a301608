"""What a payload's codec must say; one small file for each kind.

Shapes: N examples, P positions of the student, R rows (positions that the teacher covers), V classes or
vocabulary, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tutelage.objectives.base import Dense
from tutelage.signals.exchange import Request
from tutelage.signals.packet import Counts, Packet
from tutelage.signals.spec import PayloadSpec

Place = Callable[[Tensor, Counts], Dense]
"""Puts a dense signal's rows [R, V] with lengths_N at the student's positions: `TaskKind.place`."""


@dataclass(frozen=True)
class ColumnLayout:
    """What one column of a packet must be."""

    dtype: type[np.generic]
    tail: tuple[int, ...]
    """Its shape behind the rows."""
    rows_N: Counts


@dataclass(frozen=True, eq=False)
class Decoded:
    """A packet's values as tensors on the student's device, still in the teacher's rows."""

    lengths_N: Counts
    rows_N: Counts
    """Rows of `values` that belong to each example: lengths_N, or its number of draws."""
    values: Tensor
    """Dense and hidden: logits fp32 [R, V]. Top-k: ids int64 [R, k]. Sampled: drawn ids int64 [draws]."""
    log_p_Rk: Tensor | None = None
    """Top-k: log-probabilities fp32 at the ids."""
    doubt_R: Tensor | None = None
    """Draws of one teacher: its entropy at temperature 1 as a share of log V, fp32."""


class Codec(Protocol):
    """Both ends of one kind of payload."""

    def encode(self, spec: PayloadSpec, values_RV: Tensor, lengths_N: Counts, request: Request) -> Packet:
        """The teacher's side. Equal rows of an example give equal bytes whatever stands beside it."""
        ...

    def layout(self, spec: PayloadSpec, lengths_N: Counts, request: Request) -> dict[str, ColumnLayout]:
        """The columns that a packet must have."""
        ...

    def fault(self, spec: PayloadSpec, columns: dict[str, NDArray[Any]]) -> str | None:
        """What is wrong with values whose layout is right; None when nothing is."""
        ...

    def decode(self, spec: PayloadSpec, packet: Packet, head_VH: Tensor | None, device: Any) -> Decoded:
        """The student's side."""
        ...
