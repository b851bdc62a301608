"""How a file that nobody has described is written: its columns, its first rows, and the keys that read it.

What a job must be told is guessed here, for a job file that people then read; a job itself never guesses.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from typing import IO, Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

from tutelage.config.data import FileSource
from tutelage.data.delimited import DELIMITERS, columns_of
from tutelage.data.encodings import marked, other_encoding
from tutelage.data.raw import Dialect, Wanted
from tutelage.data.sources import READERS, File, list_files, opened_file
from tutelage.data.text_lines import HEAD_BYTES, json_object, open_lines

SAMPLE_ROWS = 1000
LONG_NAME = 60
"""Characters that the name of a column does not have."""


@dataclass(frozen=True)
class Peek:
    """What the first file of a path shows."""

    keys: dict[str, Any]
    """Keys of the source beside its path, only those that the files need."""
    columns: list[str]
    rows: list[dict[str, Any]]
    """The first rows that can be read, at most SAMPLE_ROWS."""


def peek(name: str, path: str) -> Peek:
    """Look at the files of a path as the source `name`. Raises DataError when they cannot be read."""
    fs, files = list_files(name, FileSource(path=path))
    file = next((one for one in files if fs.size(one.path)), files[0])
    text = file.format in ("csv", "tsv", "jsonl", "text")
    wanted = Wanted(name, file.shown, {})
    keys: dict[str, Any] = {}
    if text:
        with opened_file(fs, file, wanted) as handle:
            head = handle.read(HEAD_BYTES)
        found = marked(head) or other_encoding(head) or "utf-8"
        keys |= {"encoding": found} if found != "utf-8" else {}
    if file.format in ("csv", "tsv"):
        keys |= _delimiter(fs, file, wanted, keys)
    columns, rows = _read(fs, file, wanted, keys)
    if file.format in ("csv", "tsv") and _is_row(columns, rows):
        keys["header"] = False
        columns, rows = _read(fs, file, wanted, keys)
    return Peek(keys, columns, rows)


def _wanted(wanted: Wanted, keys: dict[str, Any], columns: list[str]) -> Wanted:
    return Wanted(wanted.source, wanted.file, {column: column for column in columns}, Dialect(**keys))


def _read(
    fs: Any, file: File, wanted: Wanted, keys: dict[str, Any]
) -> tuple[list[str], list[dict[str, Any]]]:
    with opened_file(fs, file, wanted) as handle:
        columns = _columns(handle, file.format, _wanted(wanted, keys, []))
    once = [column for column in columns if columns.count(column) == 1]
    rows: list[dict[str, Any]] = []
    with opened_file(fs, file, wanted) as handle:
        for batch in READERS[file.format](handle, _wanted(wanted, keys, once)):
            if not batch.rows:
                continue
            rows += [
                {column: _shown(value) for column, value in zip(once, values, strict=True)}
                for values in zip(*(batch.values[column] for column in once), strict=True)
            ]
            if len(rows) >= SAMPLE_ROWS:
                break
    return once, rows[:SAMPLE_ROWS]


def _shown(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _columns(file: IO[bytes], kind: str, wanted: Wanted) -> list[str]:
    if kind == "text":
        return ["text"]
    if kind == "jsonl":
        opened = open_lines(file, wanted)
        objects = (json_object(line) for line in opened.lines) if opened else iter(())
        seen = (one for one in islice(objects, SAMPLE_ROWS) if isinstance(one, dict))
        return list(dict.fromkeys(key for one in seen for key in one))
    if kind in ("csv", "tsv"):
        opened = open_lines(file, wanted)
        return columns_of(opened, wanted, "\t" if kind == "tsv" else ",") if opened else []
    magic = file.read(6)
    file.seek(0)
    source: Any = file
    try:
        if not magic:
            return []
        if kind == "parquet":
            return list(pa.parquet.ParquetFile(source).schema_arrow.names)
        opener = pa.ipc.open_file if magic == b"ARROW1" else pa.ipc.open_stream
        return list(opener(source).schema.names)
    except (pa.ArrowException, OSError) as problem:
        raise wanted.unreadable(problem) from problem


def _delimiter(fs: Any, file: File, wanted: Wanted, keys: dict[str, Any]) -> dict[str, str]:
    """The delimiter, where that of the format, or of a line `sep=`, leaves one cell and another does not."""
    own = "\t" if file.format == "tsv" else ","
    found = {}
    for mark in (None, *(one for one in DELIMITERS if one != own)):
        with opened_file(fs, file, wanted) as handle:
            opened = open_lines(handle, _wanted(wanted, keys, []))
            if opened:
                asked = _wanted(wanted, {**keys, "delimiter": mark}, [])
                found[mark] = len(columns_of(opened, asked, own))
    best = max(found, key=lambda mark: found[mark], default=None)
    return {"delimiter": best} if best is not None and found[None] == 1 and found[best] > 1 else {}


def _is_row(columns: list[str], rows: list[dict[str, Any]]) -> bool:
    """Whether what stands for the header is a row: a value that comes again in its column, or a long text."""
    names = [re.sub(r"#\d+$", "", column) for column in columns]
    if any(len(name) > LONG_NAME or _is_number(name) for name in names):
        return True
    for column, name in zip(columns, names, strict=True):
        values = Counter(row[column] for row in rows)
        if values[name] and 2 * len(values) <= len(rows):
            return True
    return False


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True
