"""Is a packet what the request asked for? Nothing of a reply is used before it was looked at here.

Shapes: N examples.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from tutelage.signals.exchange import Reply, Request
from tutelage.signals.packet import Column, Packet
from tutelage.signals.payloads.base import ColumnLayout
from tutelage.signals.payloads.registry import codec


def fault(request: Request, reply: Reply) -> str | None:
    """What is wrong with a reply, as a noun phrase that follows 'answered with'; None when nothing is."""
    if reply.digest != request.digest:
        return f"the digest of another batch ({reply.digest.hex()}, not {request.digest.hex()})"
    return packet_fault(request, reply.packet)


def packet_fault(request: Request, packet: Packet) -> str | None:
    """The same for a packet by itself, such as one from the store."""
    lengths_N = packet.lengths_N
    if len(lengths_N) != len(request):
        return f"{len(lengths_N)} examples instead of {len(request)}"
    if lengths_N.dtype != np.int32 or (lengths_N < 0).any():
        return f"lengths that are no counts ({lengths_N.dtype})"
    over = np.flatnonzero(lengths_N > request.positions_N)
    if len(over):
        n = int(over[0])
        return f"{lengths_N[n]} rows for the {request.positions_N[n]} positions of example {n}"
    kind = codec(request.spec)
    wanted = kind.layout(request.spec, lengths_N, request)
    if set(packet.columns) != set(wanted):
        return f"the columns {_names(packet.columns)} instead of {_names(wanted)}"
    for name, layout in wanted.items():
        found = _column_fault(name, packet.columns[name], layout)
        if found:
            return found
    return kind.fault(request.spec, {name: column.values for name, column in packet.columns.items()})


def head_fault(head_VH: Any) -> str | None:
    """What is wrong with an output layer, as `fault` says it."""
    if not isinstance(head_VH, np.ndarray) or head_VH.ndim != 2 or head_VH.dtype != np.float32:
        return "its output layer is no float32 matrix"
    return None if np.isfinite(head_VH).all() else "its output layer holds NaN or infinity"


def _column_fault(name: str, column: Column, layout: ColumnLayout) -> str | None:
    values = column.values
    if values.dtype != layout.dtype:
        return f"{values.dtype} instead of {np.dtype(layout.dtype)} in {name}"
    shape = (int(layout.rows_N.sum()), *layout.tail)
    if values.shape != shape:
        return f"{name} of shape {values.shape} instead of {shape}"
    if not np.array_equal(column.rows_N, layout.rows_N):
        return f"rows of {name} that are split otherwise among the examples than asked"
    return None


def _names(columns: Iterable[str]) -> str:
    return ", ".join(sorted(columns)) or "none"
