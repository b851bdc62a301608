"""Raw rows of one file, as each format gives them: parquet, Arrow, JSON lines, CSV.

Readers hold one batch of rows at a time. Text arrives as str, as bytes that nobody has checked yet, or
as whatever else the file holds; what cannot even be read as a row arrives as a `Flaw`.
Row numbers start at 1: the record in parquet, Arrow and CSV (the header is not counted), the line in
JSON lines.
"""

from __future__ import annotations

import csv
import difflib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

from tutelage.errors import DataError

BATCH_ROWS = 4096
BROKEN_JSON = "broken JSON line"
NOT_UTF8 = "invalid UTF-8"
FIELDS = "wrong number of fields"
EMPTY_FILE = "empty file"
MAY_BE_NULL = ("label", "tags", "answers")
"""Keys of `columns` that a source without labels sets to null."""
INVALID = b"\xff"
"""Stands for a value that holds invalid UTF-8 somewhere inside."""


@dataclass
class Flaw:
    """A row that cannot be read; `row` is 0 when the whole file is meant."""

    row: int
    reason: str


@dataclass
class RawRows:
    """Up to BATCH_ROWS rows of one file; `values` holds a list for each key of `columns` that is read."""

    file: str
    rows: list[int] = field(default_factory=list)
    values: dict[str, list[Any]] = field(default_factory=dict)
    flaws: list[Flaw] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rows) + sum(1 for flaw in self.flaws if flaw.row)


@dataclass(frozen=True)
class Wanted:
    """What to read of a file: its shown name, and for each key of `columns` the column."""

    source: str
    file: str
    keys: dict[str, str]

    @property
    def columns(self) -> list[str]:
        """The columns to read."""
        return list(dict.fromkeys(self.keys.values()))

    def check(self, existing: list[str]) -> None:
        """Raises DataError when a column is not there."""
        for key, column in self.keys.items():
            if column in existing:
                continue
            existing = [name.encode("utf-8", "replace").decode() for name in existing]
            near = difflib.get_close_matches(column, existing, n=1, cutoff=0.5)
            fix = f"set data.sources.{self.source}.columns.{key}: {near[0] if near else '<one of these>'}"
            if key in MAY_BE_NULL:
                fix += ", or null when the source has no labels"
            raise DataError(
                f"data.sources.{self.source}: {self.file} has no column '{column}'; "
                f"its columns are {', '.join(existing) or '(none)'}",
                fix=fix,
            )

    def unreadable(self, problem: object) -> DataError:
        """The error for a file that is not what its format says."""
        return DataError(
            f"data.sources.{self.source}: {self.file} cannot be read: {problem}",
            fix=f"check the file, or set data.sources.{self.source}.format",
        )

    def empty(self) -> RawRows:
        """What a file without rows gives."""
        return RawRows(self.file, flaws=[Flaw(0, EMPTY_FILE)])


Reader = Callable[[IO[bytes], Wanted], Iterator[RawRows]]


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


def read_jsonl(file: IO[bytes], wanted: Wanted) -> Iterator[RawRows]:
    """One JSON object a line; blank lines are passed over but counted."""
    seen: dict[str, None] = {}
    batch = _fresh(wanted)
    any_row = any_object = False
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        any_row = True
        value = _json_object(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)
        if isinstance(value, str):
            batch.flaws.append(Flaw(number, value))
        else:
            any_object = True
            if len(seen) < 1000:
                seen.update(dict.fromkeys(value))
            _append(batch, number, {key: value.get(column) for key, column in wanted.keys.items()})
        if len(batch) >= BATCH_ROWS:
            yield batch
            batch = _fresh(wanted)
    if any_object:
        wanted.check(list(seen))
    yield batch if any_row else wanted.empty()


def _json_object(line: bytes) -> dict[str, Any] | str:
    """The object, or what is wrong with the line."""
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        return NOT_UTF8
    except (ValueError, RecursionError):
        return BROKEN_JSON
    return value if isinstance(value, dict) else BROKEN_JSON


def read_csv(file: IO[bytes], wanted: Wanted, delimiter: str = ",") -> Iterator[RawRows]:
    """Comma separated, quoted by ", first line is the header, UTF-8."""
    lines = (line.decode("utf-8", "surrogateescape") for line in file)
    table = csv.reader(lines, delimiter=delimiter)
    try:
        header = [_raw_bytes(name).decode("utf-8", "replace") for name in next(table, [])]
        header = [name.removeprefix("\ufeff") for name in header]
        if not header:
            yield wanted.empty()
            return
        wanted.check(header)
        yield from _csv_rows(table, header, wanted)
    except csv.Error as problem:
        raise wanted.unreadable(f"line {table.line_num}: {problem}") from problem


def _csv_rows(table: Iterator[list[str]], header: list[str], wanted: Wanted) -> Iterator[RawRows]:
    places = {key: header.index(column) for key, column in wanted.keys.items()}
    batch = _fresh(wanted)
    number = 0
    for cells in table:
        if not cells:
            continue
        number += 1
        if len(cells) != len(header):
            batch.flaws.append(Flaw(number, FIELDS))
        else:
            _append(batch, number, {key: _raw_bytes(cells[place]) for key, place in places.items()})
        if len(batch) >= BATCH_ROWS:
            yield batch
            batch = _fresh(wanted)
    yield batch if number else wanted.empty()


def _raw_bytes(cell: str) -> bytes:
    return cell.encode("utf-8", "surrogateescape")


def read_tsv(file: IO[bytes], wanted: Wanted) -> Iterator[RawRows]:
    """CSV with tabs."""
    return read_csv(file, wanted, delimiter="\t")


def _fresh(wanted: Wanted) -> RawRows:
    return RawRows(wanted.file, values={key: [] for key in wanted.keys})


def _append(batch: RawRows, row: int, values: dict[str, Any]) -> None:
    batch.rows.append(row)
    for key, value in values.items():
        batch.values[key].append(value)
