"""Which column of a data file holds the text and which the label, as far as the file itself tells."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tutelage.errors import DataError

TEXT_NAMES = ("text", "sentence", "review", "content", "body", "comment", "message", "document", "title")
LABEL_NAMES = (
    "label",
    "labels",
    "target",
    "class",
    "category",
    "sentiment",
    "intent",
    "y",
    "rating",
    "stars",
)
MAX_ROWS = 100_000
MAX_LABELS = 200


@dataclass(frozen=True)
class Found:
    """What a data file holds."""

    text: str
    label: str
    labels: list[str]
    """The distinct labels, sorted."""
    rows: int
    """Rows looked at (at most MAX_ROWS)."""


def find_columns(path: Path, *, text: str | None = None, label: str | None = None) -> Found:
    """The text and label columns of a file; `text` and `label` say what is known already.

    Raises DataError when the file cannot be read, or when a column cannot be told.
    """
    if not path.is_file():
        raise DataError(f"{path} is not a file", fix="give --data one parquet, arrow, jsonl or csv file")
    rows = _rows(path)
    if not rows:
        raise DataError(f"{path} holds no rows", fix="give --data a file with a header and some rows")
    columns = list(rows[0])
    for option, name in (("--text", text), ("--label", label)):
        if name is not None and name not in columns:
            raise DataError(
                f"{option} {name}: {path} has no such column, only {', '.join(columns)}",
                fix="name one of them",
            )
    text = text or _text_column(rows, [name for name in columns if name != label])
    label = label or _label_column(rows, [name for name in columns if name != text])
    if text is None or label is None:
        missing = "text" if text is None else "label"
        raise DataError(
            f"{path}: cannot tell which of {', '.join(columns)} is the {missing} column",
            fix=f"say it: --{missing} COLUMN",
        )
    labels = sorted({str(row[label]) for row in rows if row.get(label) not in (None, "")})
    if not 2 <= len(labels) <= MAX_LABELS:
        raise DataError(
            f"{path}: column '{label}' holds {len(labels)} different labels; a task has 2 to {MAX_LABELS}",
            fix="say which column is the label: --label COLUMN",
        )
    return Found(text, label, labels, len(rows))


def _text_column(rows: list[dict[str, Any]], columns: list[str]) -> str | None:
    """The column that is called like a text, else the one with the longest words."""
    named = _by_name(columns, TEXT_NAMES)
    if named:
        return named
    lengths = {
        name: sum(len(row[name]) for row in rows if isinstance(row.get(name), str)) / len(rows)
        for name in columns
    }
    longest = max(lengths, key=lambda name: lengths[name], default=None)
    return longest if longest and lengths[longest] >= 10 else None


def _label_column(rows: list[dict[str, Any]], columns: list[str]) -> str | None:
    """The column that is called like a label, else the only one with few values that come again."""
    named = _by_name(columns, LABEL_NAMES)
    if named:
        return named
    few = [
        name for name in columns if 2 <= len({str(row.get(name)) for row in rows}) <= min(20, len(rows) // 2)
    ]
    return few[0] if len(few) == 1 else None


def _by_name(columns: list[str], names: tuple[str, ...]) -> str | None:
    lower = {column.lower(): column for column in reversed(columns)}
    return next((lower[name] for name in names if name in lower), None)


def _rows(path: Path) -> list[dict[str, Any]]:
    ending = path.suffix.lower()
    readers = {
        ".csv": _csv,
        ".tsv": _csv,
        ".jsonl": _jsonl,
        ".ndjson": _jsonl,
        ".parquet": _parquet,
        ".arrow": _arrow,
        ".feather": _arrow,
    }
    if ending not in readers:
        raise DataError(f"{path}: the ending '{ending}' is not known", fix=f"use one of {', '.join(readers)}")
    try:
        return [dict(row) for row in islice(readers[ending](path), MAX_ROWS)]
    except (ValueError, OSError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}", fix="check the file and its ending") from None


def _csv(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        yield from csv.DictReader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")


def _jsonl(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for count, line in enumerate(file, 1):
            if line.strip():
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError(f"line {count} is not an object")
                yield row


def _parquet(path: Path) -> Iterator[Mapping[str, Any]]:
    from pyarrow import parquet

    for batch in parquet.ParquetFile(path).iter_batches():
        yield from batch.to_pylist()


def _arrow(path: Path) -> Iterator[Mapping[str, Any]]:
    from pyarrow import feather

    yield from feather.read_table(path).to_pylist()
