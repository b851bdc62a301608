"""What `tutelage init` finds in a file, in figures and in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tutelage.data.row_set import RowSet, told

MOST_LABELS = 20
"""Labels whose rows are told."""


@dataclass(frozen=True)
class Found:
    """What a data file holds, as a job reads it."""

    text: str
    label: str
    keys: dict[str, Any]
    """Keys of the source that its files need: encoding, delimiter, header."""
    counts: dict[str, int]
    """Label -> rows, by label."""
    spellings: dict[str, str] = field(default_factory=dict)
    """Value in the column -> the label it is another spelling of: they differ in case or white space."""
    sample: str = ""
    splits: dict[str, float] = field(default_factory=lambda: {"validation": 0.1, "test": 0.1})
    rows: RowSet | None = None
    """The rows as the job reads them."""
    concerns: list[str] = field(default_factory=list)
    """What is worth a warning in them."""

    @property
    def labels(self) -> list[str]:
        """The labels, sorted."""
        return list(self.counts)

    @property
    def bad(self) -> dict[str, int]:
        """Reason -> rows that cannot be used."""
        return dict(next(iter(self.rows.bad.values()))) if self.rows else {}

    @property
    def validated(self) -> bool:
        """Whether some validation row has a label, as stopping early needs."""
        if self.rows is None:
            return True
        return any(
            sum(parts["validation"].values()) > parts["validation"][""]
            for parts in self.rows.classes.values()
        )


def about(found: Found) -> dict[str, Any]:
    """What was found, for `--json`."""
    rows = found.rows
    return {
        "columns": {"text": found.text, "label": found.label},
        "keys": found.keys,
        "labels": found.counts,
        "spellings": found.spellings,
        "bad": found.bad,
        "notes": told(rows) if rows else [],
        "concerns": found.concerns,
        "sample": found.sample,
    }


def lines(found: Found) -> list[str]:
    """The same in words."""
    counts = [f"{label} {rows:,}" for label, rows in found.counts.items()]
    shown = [
        *counts[:MOST_LABELS],
        *([f"and {len(counts) - MOST_LABELS} more"] if counts[MOST_LABELS:] else []),
    ]
    words = [f"text column   {found.text}: {found.sample}"]
    words.append(f"label column  {found.label}, {sum(found.counts.values()):,} rows: {', '.join(shown)}")
    words += [f"{key:<13} {value!r}" for key, value in found.keys.items()]
    for value, label in found.spellings.items():
        words.append(f"spelling      {value!r} is read as {label!r} (data.sources: labels)")
    return [*words, *(told(found.rows) if found.rows else []), *found.concerns]
