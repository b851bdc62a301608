"""A memory-mapped Arrow IPC file as one table whose rows are reached by number."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
from numpy.typing import NDArray

from tutelage.errors import StoreError


def _indices(rows: NDArray[np.int64]) -> Any:
    return pa.array(rows)


class MappedTable:
    """Rows of an Arrow IPC file by number; the file stays on disk, only what is asked for is read.

    Raises:
        StoreError: the file is missing or no whole Arrow file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._map = pa.memory_map(str(path))
            reader = pa.ipc.open_file(self._map)
            self.batches: list[Any] = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        except (OSError, pa.ArrowInvalid) as problem:
            raise StoreError(
                f"{path} is not a whole Arrow file: {problem}", fix="remove it and repeat the command"
            ) from problem
        self.schema: pa.Schema = reader.schema
        self.starts: NDArray[np.int64] = np.cumsum(
            [0, *(batch.num_rows for batch in self.batches)], dtype=np.int64
        )
        """First row of each batch, and the number of rows at the end."""

    def __len__(self) -> int:
        return int(self.starts[-1])

    def numbers(self, column: str) -> NDArray[Any]:
        """A whole column of numbers, or the codes of a dictionary column, as one array."""
        parts = []
        for batch in self.batches:
            values = batch.column(column)
            parts.append((values.indices if pa.types.is_dictionary(values.type) else values).to_numpy())
        kind = self.schema.field(column).type
        empty = np.empty(0, (kind.index_type if pa.types.is_dictionary(kind) else kind).to_pandas_dtype())
        return np.concatenate(parts) if parts else empty

    def names(self, column: str) -> list[str]:
        """The dictionary of a dictionary column."""
        return list(self.batches[0].column(column).dictionary.to_pylist()) if self.batches else []

    def located(self, rows: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
        """For each record batch that holds some of `rows`: its index, their places in `rows`, and in it."""
        if not len(rows):
            return
        home = np.searchsorted(self.starts, rows, side="right") - 1
        order = np.argsort(home, kind="stable")
        for places in np.split(order, np.flatnonzero(np.diff(home[order])) + 1):
            index = int(home[places[0]])
            yield index, places, rows[places] - self.starts[index]

    def take(self, rows: NDArray[np.int64]) -> pa.Table:
        """The rows in the order asked for."""
        if not len(rows):
            return self.schema.empty_table()
        parts, places = [], []
        for index, where, local in self.located(rows):
            parts.append(self.batches[index].take(_indices(local)))
            places.append(where)
        back = np.empty(len(rows), np.int64)
        back[np.concatenate(places)] = np.arange(len(rows))
        return pa.Table.from_batches(parts).combine_chunks().take(_indices(back))

    def values(self, column: str, rows: NDArray[np.int64]) -> list[Any]:
        """Python values of one column, in the order of `rows`."""
        found: list[Any] = [None] * len(rows)
        for index, places, local in self.located(rows):
            taken = self.batches[index].column(column).take(_indices(local)).to_pylist()
            for place, value in zip(places.tolist(), taken, strict=True):
                found[place] = value
        return found
