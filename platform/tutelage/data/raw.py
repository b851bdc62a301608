"""Raw rows of one file, whatever its format: what was asked for, what was read, what could not be.

Readers hold one batch of rows at a time. Text arrives as str, as bytes that nobody has checked yet, or
as whatever else the file holds; what cannot even be read as a row arrives as a `Flaw`.
Row numbers start at 1: the record in parquet, Arrow and CSV (the header is not counted), the line in
JSON lines and text.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO, Any

from tutelage.config.dump import inline
from tutelage.errors import DataError

BATCH_ROWS = 4096
NOT_UTF8 = "invalid UTF-8"
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
    remarks: list[Flaw] = field(default_factory=list)
    """What was read otherwise than it stands there, or passed over on purpose: no flaw, but to be told."""
    hint: str = ""
    """Which key would read the file, where its bytes look like something else than was asked for."""

    def __len__(self) -> int:
        return len(self.rows) + sum(1 for flaw in self.flaws if flaw.row)

    def append(self, row: int, values: dict[str, Any]) -> None:
        """Add one row."""
        self.rows.append(row)
        for key, value in values.items():
            self.values[key].append(value)


@dataclass(frozen=True)
class Dialect:
    """How a text file is written; the keys of the same names in a source."""

    encoding: str = "utf-8"
    delimiter: str | None = None
    """Null: the format's own."""
    quote: str = "auto"
    header: bool | tuple[str, ...] = True


@dataclass(frozen=True)
class Wanted:
    """What to read of a file: its shown name, and for each key of `columns` the column."""

    source: str
    file: str
    keys: dict[str, str]
    dialect: Dialect = Dialect()
    labels: frozenset[str] = frozenset()
    """How labels are written in the file, as far as the job knows."""

    @property
    def columns(self) -> list[str]:
        """The columns to read."""
        return list(dict.fromkeys(self.keys.values()))

    @property
    def key(self) -> str:
        """The source's own section of the job file."""
        return f"data.sources.{self.source}"

    def check(self, existing: list[str], hint: str = "") -> None:
        """Raises DataError when a column is not there, or more than once; `hint` is a better fix."""
        for key, column in self.keys.items():
            if existing.count(column) > 1:
                raise DataError(
                    f"{self.key}: {self.file} has {existing.count(column)} columns '{column}'",
                    fix="write the file again with a name of its own for each column",
                )
            if column in existing:
                continue
            existing = [name.encode("utf-8", "replace").decode() for name in existing]
            near = difflib.get_close_matches(column, existing, n=1, cutoff=0.5)
            fix = f"set {self.key}.columns.{key}: {inline(near[0]) if near else '<one of these>'}"
            if key in MAY_BE_NULL:
                fix += ", or null when the source has no labels"
            raise DataError(
                f"{self.key}: {self.file} has no column '{column}'; "
                f"its columns are {', '.join(existing) or '(none)'}",
                fix=hint or fix,
            )

    def unreadable(self, problem: object, fix: str = "") -> DataError:
        """The error for a file that is not what its format says."""
        return DataError(
            f"{self.key}: {self.file} cannot be read: {problem}",
            fix=fix or f"check the file, or set {self.key}.format",
        )

    def empty(self) -> RawRows:
        """What a file without rows gives."""
        return RawRows(self.file, flaws=[Flaw(0, EMPTY_FILE)])

    def fresh(self, hint: str = "") -> RawRows:
        """A batch to append rows to."""
        return RawRows(self.file, values={key: [] for key in self.keys}, hint=hint)


Reader = Callable[[IO[bytes], Wanted], Iterator[RawRows]]
