"""A column of lists of numbers in a memory-mapped table, by row number."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.data.table import MappedTable


class Ragged:
    """list<int32> as one array for each row; the values stay in the file.

    Legend: N rows asked for.
    """

    def __init__(self, table: MappedTable, column: str) -> None:
        self._table = table
        parts: list[Any] = [batch.column(column) for batch in table.batches]
        self._values = [part.values.to_numpy() for part in parts]
        self._offsets = [part.offsets.to_numpy() for part in parts]
        lengths = [np.diff(offsets) for offsets in self._offsets]
        self.lengths: NDArray[np.int32] = (
            np.concatenate(lengths).astype(np.int32) if lengths else np.empty(0, np.int32)
        )
        """Values of every row of the file."""

    def take(self, rows: NDArray[np.int64]) -> list[NDArray[np.int32]]:
        """The values of each row, in the order asked: N arrays."""
        found: list[NDArray[np.int32]] = [np.empty(0, np.int32)] * len(rows)
        for index, places, local in self._table.located(rows):
            offsets, values = self._offsets[index], self._values[index]
            for place, row in zip(places.tolist(), local.tolist(), strict=True):
                found[place] = values[offsets[row] : offsets[row + 1]]
        return found

    def fill(self, out_BT: NDArray[np.int64], rows: NDArray[np.int64]) -> None:
        """Write the values of each row at the left of its row of `out_BT`; the rest stays as it is."""
        columns = np.arange(out_BT.shape[1])
        inside_BT = columns[None, :] < self.lengths[rows][:, None]
        for index, places, local in self._table.located(rows):
            starts = self._offsets[index][local].astype(np.int64)
            inside = inside_BT[places]
            part = out_BT[places]
            part[inside] = self._values[index][(starts[:, None] + columns[None, :])[inside]]
            out_BT[places] = part
