"""Rows in the memory of this process: a whole store by itself, and the unflushed part of a larger one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.errors import StoreError
from tutelage.signals.packet import Packet
from tutelage.signals.store.layout import DIGEST_BYTES, Layout

ROW_OVERHEAD = 256
"""Bytes that Python needs to remember one row, about."""


@dataclass(frozen=True, eq=False)
class Row:
    """The signal of one example."""

    length: int
    values: list[NDArray[Any]]
    """For each column."""


class RowTable:
    """Rows by digest, in the order in which they came."""

    def __init__(self) -> None:
        self.layout: Layout | None = None
        self.nbytes = 0
        self._rows: dict[bytes, tuple[_Chunk, int]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._rows

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._rows)

    def __getitem__(self, digest: bytes) -> Row:
        chunk, position = self._rows[digest]
        return chunk.row(position)

    def add(self, digests: Sequence[bytes], packet: Packet) -> None:
        """Copy the rows that are not there yet. Raises StoreError for rows that do not fit the others."""
        new = {digest: n for n, digest in reversed(list(enumerate(digests))) if digest not in self._rows}
        if not new:
            return
        which = sorted(new.values())
        self.layout = check_layout(packet, self.layout)
        chunk = _Chunk(packet.select(which))
        for position, n in enumerate(which):
            self._rows[digests[n]] = (chunk, position)
        self.nbytes += chunk.packet.nbytes + ROW_OVERHEAD * len(which)

    def clear(self) -> None:
        """Forget all rows; the layout stays."""
        self._rows.clear()
        self.nbytes = 0


class _Chunk:
    """A packet that gives single rows."""

    def __init__(self, packet: Packet) -> None:
        self.packet = packet
        self._columns = [
            (column.values, np.concatenate([[0], np.cumsum(column.rows_N)]).tolist())
            for column in packet.columns.values()
        ]

    def row(self, position: int) -> Row:
        values = [values[starts[position] : starts[position + 1]] for values, starts in self._columns]
        return Row(int(self.packet.lengths_N[position]), values)


class MemoryStore:
    """A store for one process; also the twin for tests."""

    def __init__(self) -> None:
        self._rows = RowTable()

    def __len__(self) -> int:
        return len(self._rows)

    def missing(self, digests: Sequence[bytes]) -> list[int]:
        """Positions in `digests` of the examples that are not held."""
        return [n for n, digest in enumerate(digests) if digest not in self._rows]

    def get(self, digests: Sequence[bytes]) -> Packet | None:
        """The signals in the order asked, or None when any is missing."""
        if self.missing(digests):
            return None
        rows = [self._rows[digest] for digest in digests]
        layout = self._rows.layout or Layout(())
        return layout.packet([row.length for row in rows], [row.values for row in rows])

    def put(self, digests: Sequence[bytes], packet: Packet) -> int:
        """Keep one row for each example, of which so many are new."""
        check_rows(digests, packet)
        before = len(self._rows)
        self._rows.add(digests, packet)
        return len(self._rows) - before

    def flush(self) -> None:
        """Nothing to do."""

    def refresh(self) -> None:
        """Nothing to do."""


def check_rows(digests: Sequence[bytes], packet: Packet) -> None:
    """Raise StoreError unless there is one whole row for each digest."""
    if len(digests) != len(packet):
        raise StoreError(f"{len(digests)} digests for a packet of {len(packet)} examples", fix=_DEFECT)
    if any(len(digest) != DIGEST_BYTES for digest in digests):
        raise StoreError(f"a digest has other than {DIGEST_BYTES} bytes", fix=_DEFECT)
    for name, column in packet.columns.items():
        if len(column.rows_N) != len(packet) or int(column.rows_N.sum()) != len(column.values):
            raise StoreError(
                f"column '{name}': its row counts do not add up to its {len(column.values)} rows", fix=_DEFECT
            )


def check_layout(packet: Packet, held: Layout | None) -> Layout:
    """The layout of a packet. Raises StoreError when rows of another layout are held already."""
    layout = Layout.of(packet)
    if held is not None and layout != held:
        raise StoreError(
            f"a packet with columns {layout.to_json()} was put where {held.to_json()} are held",
            fix="a payload whose bytes change needs another PayloadSpec.key",
        )
    return layout


_DEFECT = "this is a defect of the caller; report it with the payload's name"
