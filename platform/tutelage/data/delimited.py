"""Rows of CSV and TSV: delimiter, quotes, header, and what is done where a file breaks its own rules."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import IO

from tutelage.config.dump import inline
from tutelage.data.quoted import Record, Records
from tutelage.data.raw import BATCH_ROWS, Flaw, RawRows, Wanted
from tutelage.data.text_lines import Lines, open_lines

FIELDS = "wrong number of fields"
HEADER_AGAIN = "the header once more, passed over"
DELIMITERS = (",", ";", "\t", "|")
"""What is tried where the delimiter that was asked for does not find the columns."""
_SEP_LINE = re.compile(r'^"?sep=(.)"?\s*$')
"""The first line that Excel writes and reads: it names the delimiter."""


def read_csv(file: IO[bytes], wanted: Wanted) -> Iterator[RawRows]:
    """Comma separated unless the source or a `sep=` line says otherwise; the first line is the header."""
    return _read(file, wanted, ",")


def read_tsv(file: IO[bytes], wanted: Wanted) -> Iterator[RawRows]:
    """CSV with tabs."""
    return _read(file, wanted, "\t")


def columns_of(opened: Lines, wanted: Wanted, delimiter: str) -> list[str]:
    """The names of the columns, as a job calls them; nothing is read of the rows."""
    _, header, _ = _begin(opened, wanted, delimiter)
    return header


def _read(file: IO[bytes], wanted: Wanted, delimiter: str) -> Iterator[RawRows]:
    opened = open_lines(file, wanted)
    if opened is None:
        yield wanted.empty()
        return
    records, header, again = _begin(opened, wanted, delimiter)
    if not header:
        yield wanted.empty()
        return
    wanted.check(header, _hint(opened, wanted, header, records.delimiter))
    yield from _rows(records, header, again, opened, wanted)


def _begin(opened: Lines, wanted: Wanted, delimiter: str) -> tuple[Records, list[str], list[str]]:
    """The records after the header, the names of the columns, and the header's own cells."""
    first = next((line for line in opened.lines if line.strip()), "")
    said = _SEP_LINE.match(first)
    delimiter = wanted.dialect.delimiter or (said[1] if said else delimiter)
    lines = opened.lines if said or not first else chain([first], opened.lines)
    records = Records(lines, delimiter, wanted.dialect.quote)
    named = wanted.dialect.header
    if named is True:
        cells = next(records, Record([])).cells
        return records, _distinct([_shown(cell) for cell in cells]), cells
    head = (line for line in opened.head if not _SEP_LINE.match(line))
    cells = next(Records(head, delimiter, wanted.dialect.quote), Record([])).cells
    if named is False:
        return records, [f"c{i + 1}" for i in range(len(cells))], []
    if cells and len(cells) != len(named):
        raise wanted.unreadable(
            f"{wanted.key}.header names {len(named)} columns, the first line has {len(cells)}",
            f"name {len(cells)} columns in {wanted.key}.header, or set {wanted.key}.delimiter",
        )
    return records, list(named) if cells else [], []


def _shown(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _distinct(names: list[str]) -> list[str]:
    """Names that stand twice with their number: `text#1`, `text#2`."""
    counts, used = Counter(names), Counter[str]()
    found = []
    for name in names:
        used[name] += 1
        found.append(f"{name}#{used[name]}" if counts[name] > 1 else name)
    return found


def _rows(
    records: Records, header: list[str], again: list[str], opened: Lines, wanted: Wanted
) -> Iterator[RawRows]:
    places = {key: header.index(column) for key, column in wanted.keys.items()}
    records.expect(len(header), places.get("label"), wanted.labels)
    batch = wanted.fresh(opened.hint)
    number = 0
    for record in records:
        cells = record.cells
        if cells == again:
            batch.remarks.append(Flaw(number, HEADER_AGAIN))
            continue
        number += 1
        if len(cells) != len(header):
            batch.flaws.append(Flaw(number, FIELDS))
            continue
        if record.remark:
            batch.remarks.append(Flaw(number, record.remark))
        batch.append(number, {key: _raw_bytes(cells[place]) for key, place in places.items()})
        if len(batch) >= BATCH_ROWS:
            yield batch
            batch = wanted.fresh(opened.hint)
    yield batch if number else wanted.empty()


def _raw_bytes(cell: str) -> bytes:
    return cell.encode("utf-8", "surrogateescape")


def _hint(opened: Lines, wanted: Wanted, header: list[str], delimiter: str) -> str:
    """The fix for columns that are not there: another encoding, another delimiter, no header."""
    if opened.hint:
        return opened.hint
    first = next((line for line in opened.head if line.strip() and not _SEP_LINE.match(line)), "")
    other = likely_delimiter(first, wanted.columns, delimiter)
    if other:
        return f"its columns are separated by {inline(other)}: set {wanted.key}.delimiter: {inline(other)}"
    if wanted.dialect.header is not True or _near(wanted, header):
        return ""
    names = f"[{', '.join(wanted.columns)}]" if len(header) == len(wanted.columns) else "[one name a column]"
    return (
        f"name the right column in {wanted.key}.columns, or, where the first line is a row already, "
        f"set {wanted.key}.header: {names}"
    )


def likely_delimiter(first: str, columns: list[str], asked: str) -> str | None:
    """Another delimiter that finds all columns in the first line, or splits a line that is one cell."""
    cells = {mark: [c.strip().strip('"') for c in first.split(mark)] for mark in DELIMITERS if mark != asked}
    for mark, names in cells.items():
        if set(columns) <= set(names) and len(names) > 1:
            return mark
    most = max(cells, key=lambda mark: len(cells[mark]), default=None)
    return most if most and asked not in first and len(cells[most]) > 1 else None


def _near(wanted: Wanted, header: list[str]) -> bool:
    """Whether some column that was asked for is there, maybe in other letters."""
    known = {name.strip().lower() for name in header}
    return any(column.strip().lower() in known for column in wanted.columns)
