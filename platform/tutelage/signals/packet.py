"""What a signal looks like on the wire and in the store: named arrays, ragged over examples.

A payload decides which columns there are. Rows of a column belong to examples in order; most columns have
one row for each position, but a column may count its rows differently (drawn labels do).

Shapes: N examples, P positions of all examples together, R rows of a column.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Column:
    """One array of a packet: values [R, ...], of which rows_N belong to each example; R is their sum."""

    values: NDArray[Any]
    rows_N: Counts

    def select(self, which: Sequence[int]) -> Column:
        """The rows of some examples, in the order asked."""
        starts_N = np.concatenate([[0], np.cumsum(self.rows_N)])
        parts = [self.values[starts_N[n] : starts_N[n + 1]] for n in which]
        values = np.concatenate(parts) if parts else self.values[:0]
        return Column(values, self.rows_N[list(which)])


@dataclass(frozen=True, eq=False)
class Packet:
    """The signals of N examples: how many positions each has, and the payload's columns."""

    lengths_N: Counts
    columns: Mapping[str, Column]

    def __len__(self) -> int:
        return len(self.lengths_N)

    @property
    def nbytes(self) -> int:
        """Bytes of all values; what the row counts cost is not included."""
        return sum(column.values.nbytes for column in self.columns.values())

    def select(self, which: Sequence[int]) -> Packet:
        """The signals of some examples, in the order asked."""
        return Packet(
            self.lengths_N[list(which)],
            {name: column.select(which) for name, column in self.columns.items()},
        )


def dense_packet(values: NDArray[Any], lengths_N: Counts | None = None, name: str = "logits") -> Packet:
    """One column with a row for each position; one position an example when no lengths are given."""
    lengths = np.ones(len(values), np.int32) if lengths_N is None else lengths_N
    return Packet(lengths, {name: Column(values, lengths)})


def join(parts: Iterable[Packet]) -> Packet:
    """The examples of all packets, one after another. Raises ValueError when their columns differ."""
    parts = list(parts)
    names = list(parts[0].columns)
    if any(list(part.columns) != names for part in parts):
        raise ValueError(f"packets with different columns: {[list(part.columns) for part in parts]}")
    return Packet(
        np.concatenate([part.lengths_N for part in parts]),
        {
            name: Column(
                np.concatenate([part.columns[name].values for part in parts]),
                np.concatenate([part.columns[name].rows_N for part in parts]),
            )
            for name in names
        },
    )
