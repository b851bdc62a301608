"""Records of delimited text. A quote that opens a cell and swallows rows is read as a sign of the text.

A quoted cell may hold line breaks and delimiters; so one quote too many joins all rows up to the next one.
With `quote: auto` a quote is taken for a sign when what follows it breaks the rules of quoting, or when
the lines that it would join are rows by themselves: as many cells as the header, and one of the labels in
the label column. A row whose quotes stand behind backslashes is read so. A quote that was named is obeyed.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tutelage.data.text_lines import BOM, MARK_INSIDE

STRAY = "quote without its counterpart, read as it stands"
BACKSLASH = "quotes behind a backslash, as some programs write them"
SPANS = "line breaks inside a quoted cell"
MAX_LINES = 10_000
"""Lines of one quoted cell, beyond which its quote is a sign."""

csv.field_size_limit(min(sys.maxsize, 2**31 - 1))


@dataclass
class Record:
    """Cells of one row, and what is to be told of how they were read."""

    cells: list[str]
    remark: str = ""


class _StrayQuoteError(Exception):
    """The quoted cell that is being read joins rows."""


class Records:
    """An iterator of the records in lines (with their ends); blank lines are passed over."""

    def __init__(self, lines: Iterator[str], delimiter: str, quote: str) -> None:
        self._lines, self.delimiter = lines, delimiter
        self._quote = {"auto": '"', "none": ""}.get(quote, quote)
        self._auto = quote == "auto"
        self._again: list[str] = []
        self._width = 0
        self._label: int | None = None
        self._labels: frozenset[str] = frozenset()

    def expect(self, width: int, label: int | None, labels: frozenset[str]) -> None:
        """Say how many cells a row has, which of them is its label, and how labels are written."""
        self._width, self._label, self._labels = width, label, labels

    def __iter__(self) -> Iterator[Record]:
        return self

    def __next__(self) -> Record:
        while True:
            line = self._line()
            if line.strip("\r\n"):
                break
        plain = line.removeprefix(BOM)
        record = self._quoted(plain) if self._quote and self._quote in plain else Record(self._split(plain))
        if plain != line:
            record.remark = MARK_INSIDE
        return record

    def _line(self) -> str:
        return self._again.pop() if self._again else next(self._lines)

    def _split(self, line: str) -> list[str]:
        return line.rstrip("\r\n").split(self.delimiter)

    def _quoted(self, line: str) -> Record:
        """The record that begins with a line in which a quote stands."""
        record = self._read(line, doublequote=True)
        if record is None and f"\\{self._quote}" in line:
            record = self._read(line, doublequote=False, escapechar="\\")
            if record is not None and len(record.cells) == self._width:
                record.remark = BACKSLASH
            else:
                record = None
        return record or Record([self._stripped(cell) for cell in self._split(line)], STRAY)

    def _read(self, line: str, **escape: Any) -> Record | None:
        """The record by the rules of quoting; None where it breaks them or joins rows: lines come again."""
        pulled: list[str] = []
        table = csv.reader(
            self._pull(line, pulled),
            delimiter=self.delimiter,
            quotechar=self._quote,
            strict=self._auto,
            **escape,
        )
        try:
            cells = next(table)
            if self._auto and len(pulled) > 1 and self._like_row(pulled[0]) and self._like_row(pulled[-1]):
                raise _StrayQuoteError
        except (csv.Error, _StrayQuoteError):
            self._again += reversed(pulled[1:])
            return None
        return Record(cells, SPANS if len(pulled) > 1 else "")

    def _pull(self, line: str, pulled: list[str]) -> Iterator[str]:
        pulled.append(line)
        yield line
        while self._again or (line := next(self._lines, "")):
            line = self._again.pop() if self._again else line
            pulled.append(line)
            if self._auto and (len(pulled) > MAX_LINES or (self._quote not in line and self._like_row(line))):
                raise _StrayQuoteError
            yield line

    def _like_row(self, line: str) -> bool:
        cells = self._split(line)
        if self._label is None or len(cells) != self._width or self._width < 2:
            return False
        return self._stripped(cells[self._label]) in self._labels

    def _stripped(self, cell: str) -> str:
        whole = len(cell) > 1 and cell[0] == cell[-1] == self._quote
        return cell[1:-1] if whole else cell
