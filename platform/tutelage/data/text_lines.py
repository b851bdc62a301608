"""The lines of a text file: its encoding, its marks, its line ends; and the readers of a row a line."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from tutelage.data.encodings import marked, other_encoding
from tutelage.data.raw import BATCH_ROWS, NOT_UTF8, Flaw, RawRows, Wanted

BROKEN_JSON = "broken JSON line"
MARK_INSIDE = "byte order mark inside the file, passed over"
BOM = "\ufeff"
HEAD_BYTES = 1 << 18
"""How much is looked at before reading begins."""
MAGIC = (
    (b"\x1f\x8b", "a gzip file", "end its name in .gz"),
    (b"BZh", "a bzip2 file", "end its name in .bz2"),
    (b"\xfd7zXZ\0", "an xz file", "end its name in .xz"),
    (b"\x28\xb5\x2f\xfd", "a zstandard file", "unpack it: unzstd FILE"),
    (b"PK\x03\x04", "a ZIP file or a spreadsheet", "unpack it, or save the sheet as CSV UTF-8"),
    (b"\xd0\xcf\x11\xe0", "a spreadsheet of Excel", "save the sheet as CSV UTF-8"),
    (b"PAR1", "a parquet file", "end its name in .parquet, or set {key}.format: parquet"),
    (b"ARROW1", "an Arrow file", "end its name in .arrow, or set {key}.format: arrow"),
    (b"SQLite format 3", "a database of SQLite", "export its table as CSV"),
)


class _Rejoined(io.RawIOBase):
    """A file whose beginning was read already: what cannot seek is read once."""

    def __init__(self, head: bytes, rest: IO[bytes]) -> None:
        self._head, self._rest = io.BytesIO(head), rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = self._head.read(len(buffer)) or self._rest.read(len(buffer))
        buffer[: len(part)] = part
        return len(part)


@dataclass(frozen=True)
class Lines:
    """A text file, opened. What its encoding cannot read stands as lone surrogates."""

    lines: Iterator[str]
    """With their ends; no byte order mark at the beginning."""
    head: list[str]
    """The first of them once more, to be looked at."""
    hint: str
    """Which key would read the file, where it looks like another encoding."""


def open_lines(file: IO[bytes], wanted: Wanted) -> Lines | None:
    """The lines of a file; None when it is empty.

    Raises:
        DataError: bytes of another format, or of another encoding than the source says.
    """
    head = file.read(HEAD_BYTES)
    if not head:
        return None
    _check_magic(head, wanted)
    encoding = wanted.dialect.encoding
    _check_mark(head, encoding, wanted)
    text = head.decode(encoding, "replace").removeprefix(BOM)
    # A carriage return ends lines only where nothing else does; beside line feeds it is part of a text.
    end = "\r" if "\r" in text and "\n" not in text else "\n"
    wrapped = io.TextIOWrapper(
        io.BufferedReader(_Rejoined(head, file)), encoding=encoding, errors="surrogateescape", newline=end
    )
    first = [f"{line}{end}" for line in text.split(end)]
    whole = first if len(head) < HEAD_BYTES or len(first) == 1 else first[:-1]
    return Lines(_unmarked(wrapped, wanted), whole, _hint(head, encoding, wanted))


def _check_magic(head: bytes, wanted: Wanted) -> None:
    for magic, what, fix in MAGIC:
        if head.startswith(magic):
            raise wanted.unreadable(f"its content is {what}", fix.format(key=wanted.key))


def _check_mark(head: bytes, encoding: str, wanted: Wanted) -> None:
    found = marked(head)
    if found is None or found.split("-")[:2] == encoding.split("-")[:2]:
        return
    fix = f"set {wanted.key}.encoding: {found}"
    raise wanted.unreadable(f"its text is {found.upper()}, not {encoding.upper()}", fix)


def _hint(head: bytes, encoding: str, wanted: Wanted) -> str:
    found = other_encoding(head) if encoding == "utf-8" else None
    return f"the file looks like {found}: set {wanted.key}.encoding: {found}" if found else ""


def _unmarked(lines: Iterator[str], wanted: Wanted) -> Iterator[str]:
    try:
        for number, line in enumerate(lines):
            yield line.removeprefix(BOM) if not number else line
    except UnicodeError as problem:
        raise wanted.unreadable(problem, f"check the file and {wanted.key}.encoding") from problem


def is_text(value: str) -> bool:
    """False where the encoding could not read some byte of it."""
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_jsonl(file: IO[bytes], wanted: Wanted) -> Iterator[RawRows]:
    """One JSON object a line; blank lines are passed over but counted."""
    opened = open_lines(file, wanted)
    if opened is None:
        yield wanted.empty()
        return
    seen: dict[str, None] = {}
    batch = wanted.fresh(opened.hint)
    any_row = any_object = False
    for number, marked_line in enumerate(opened.lines, start=1):
        line = marked_line.removeprefix(BOM)
        if line != marked_line:
            batch.remarks.append(Flaw(number, MARK_INSIDE))
        if not line.strip():
            continue
        if not any_row and line.lstrip().startswith("["):
            raise wanted.unreadable(
                "it begins with '[': a JSON array, where each line must be one object",
                "write one object a line: jq -c '.[]' FILE > FILE.jsonl",
            )
        any_row = True
        value = json_object(line)
        if isinstance(value, str):
            batch.flaws.append(Flaw(number, value))
        else:
            any_object = True
            if len(seen) < 1000:
                seen.update(dict.fromkeys(value))
            batch.append(number, {key: value.get(column) for key, column in wanted.keys.items()})
        if len(batch) >= BATCH_ROWS:
            yield batch
            batch = wanted.fresh(opened.hint)
    if any_object:
        wanted.check(list(seen))
    yield batch if any_row else wanted.empty()


def json_object(line: str) -> dict[str, Any] | str:
    """The object, or what is wrong with the line."""
    if not is_text(line):
        return NOT_UTF8
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return BROKEN_JSON
    return value if isinstance(value, dict) else BROKEN_JSON


def read_text(file: IO[bytes], wanted: Wanted) -> Iterator[RawRows]:
    """A text a line, in the column `text`; blank lines are passed over but counted."""
    fix = f"set {wanted.key}.columns.label: null, or {wanted.key}.label: NAME where all rows have one label"
    wanted.check(["text"], fix if wanted.keys.get("text") == "text" else "")
    opened = open_lines(file, wanted)
    any_row = False
    batch = wanted.fresh(opened.hint if opened else "")
    for number, marked_line in enumerate(opened.lines if opened else (), start=1):
        if marked_line.startswith(BOM):
            batch.remarks.append(Flaw(number, MARK_INSIDE))
        line = marked_line.removeprefix(BOM).rstrip("\r\n")
        if not line.strip():
            continue
        any_row = True
        batch.append(number, dict.fromkeys(wanted.keys, line))
        if len(batch) >= BATCH_ROWS:
            yield batch
            batch = wanted.fresh(batch.hint)
    yield batch if any_row else wanted.empty()
