"""What was counted while the rows of a job were read, and how it is told."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from tutelage.errors import StoreError


@dataclass(frozen=True)
class RowSet:
    """The rows of a job and what was counted while they were read."""

    path: Path
    fingerprint: str
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    """source -> split -> rows."""
    bad: dict[str, dict[str, int]] = field(default_factory=dict)
    """source -> reason -> rows left out (`data.on_bad_row: skip`)."""
    labelled: dict[str, int] = field(default_factory=dict)
    """source -> rows with a label, over all splits."""
    overlaps: dict[str, int] = field(default_factory=dict)
    """source -> rows left out because another source holds the same text out for validation or test."""
    remarks: dict[str, dict[str, int]] = field(default_factory=dict)
    """source -> what was read otherwise than it stands in the file, or passed over -> how often."""
    places: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """source -> reason of either kind -> `file row 5` of the first ones."""
    classes: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    """source -> split -> label -> rows; "" counts those without one. Other tasks have one label: labelled."""
    repeats: dict[str, int] = field(default_factory=dict)
    """source -> good rows whose text stands in an earlier row of it."""
    two_labels: int = 0
    """Texts that stand in several rows, and not always with the same label."""
    hints: dict[str, str] = field(default_factory=dict)
    """source -> which key would read the file better, as its reader thinks; only where rows were left out."""


def load_rows(folder: Path) -> RowSet:
    """The rows that a folder holds. Raises StoreError when it is damaged."""
    try:
        saved = json.loads((folder / "rows.json").read_text())
        return RowSet(path=folder / "rows.arrow", **saved)
    except (OSError, ValueError, TypeError) as problem:
        raise StoreError(
            f"{folder} is damaged: {problem}", fix=f"remove {folder} and repeat the command"
        ) from problem


def told(rows: RowSet) -> list[str]:
    """A line for all that was left out, or read otherwise than it stands in the files."""
    lines = []
    for name, reasons in rows.bad.items():
        if reasons:
            lines.append(f"{name}: left out {_counted(rows, name, reasons)}")
            lines += [f"{name}: {rows.hints[name]}"] if name in rows.hints else []
    for name, count in rows.overlaps.items():
        if count:
            lines.append(f"{name}: left out {count} rows whose text another source holds out")
    for name, reasons in rows.remarks.items():
        lines.append(f"{name}: {_counted(rows, name, reasons)}")
    return lines


def _counted(rows: RowSet, source: str, reasons: dict[str, int]) -> str:
    """`2 x empty text (a.csv row 3, a.csv row 9), 1 x null text (a.csv row 5)`."""
    words = []
    for reason, count in reasons.items():
        places = rows.places.get(source, {}).get(reason, [])
        more = ", ..." if count > len(places) else ""
        words.append(f"{count:,} x {reason}" + (f" ({', '.join(places)}{more})" if places else ""))
    return ", ".join(words)
