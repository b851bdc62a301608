"""Rows of parquet files and of Arrow IPC files and streams, one batch at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

from tutelage.data.raw import BATCH_ROWS, INVALID, RawRows, Wanted


@contextmanager
def _arrow_errors(wanted: Wanted) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as problem:
        raise wanted.unreadable(problem) from problem


def read_parquet(file: IO[bytes], wanted: Wanted) -> Iterator[RawRows]:
    """Rows of a parquet file, some thousand at a time."""
    if not file.read(1):
        yield wanted.empty()
        return
    file.seek(0)
    with _arrow_errors(wanted):
        parquet = pa.parquet.ParquetFile(file)
        wanted.check(parquet.schema_arrow.names)
        yield from _numbered(parquet.iter_batches(BATCH_ROWS, columns=wanted.columns), wanted)


def read_arrow(file: IO[bytes], wanted: Wanted) -> Iterator[RawRows]:
    """Rows of an Arrow IPC file or stream, one record batch at a time."""
    magic = file.read(6)
    if not magic:
        yield wanted.empty()
        return
    file.seek(0)
    with _arrow_errors(wanted):
        source: Any = file
        reader = pa.ipc.open_file(source) if magic == b"ARROW1" else pa.ipc.open_stream(source)
        wanted.check(reader.schema.names)
        yield from _numbered(_ipc_batches(reader), wanted)


def _ipc_batches(reader: Any) -> Iterator[pa.RecordBatch]:
    if isinstance(reader, pa.ipc.RecordBatchFileReader):
        for i in range(reader.num_record_batches):
            yield reader.get_batch(i)
    else:
        yield from reader


def _numbered(batches: Iterator[pa.RecordBatch], wanted: Wanted) -> Iterator[RawRows]:
    row = 1
    for whole in batches:
        for start in range(0, whole.num_rows, BATCH_ROWS):
            batch = whole.slice(start, BATCH_ROWS)
            values = {key: arrow_values(batch.column(column)) for key, column in wanted.keys.items()}
            yield RawRows(wanted.file, list(range(row, row + batch.num_rows)), values)
            row += batch.num_rows
    if row == 1:
        yield wanted.empty()


def arrow_values(column: Any) -> list[Any]:
    """Python values of an Arrow array; strings as unchecked bytes, since files may hold invalid UTF-8."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string(column.type):
        column = column.view(pa.binary())
    elif pa.types.is_large_string(column.type):
        column = column.view(pa.large_binary())
    elif pa.types.is_string_view(column.type):
        column = column.view(pa.binary_view())
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:  # text inside lists and structs
        return [_value(item) for item in column]


def _value(item: Any) -> Any:
    try:
        return item.as_py()
    except UnicodeDecodeError:
        return INVALID
