"""One source's raw rows, checked: what is a good row, and how bad ones are reported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tutelage.config.dump import inline
from tutelage.data.checks import BadRowError, Check, text_digest
from tutelage.data.labels import UnknownLabelError, fold_label
from tutelage.data.raw import RawRows
from tutelage.errors import DataError

UNKNOWN_LABEL = "unknown label"

SHOWN_ROWS = 10
SHOWN_PLACES = 3
SHOWN_LABELS = 5


@dataclass
class GoodRows:
    """Checked rows: digest (16 bytes), text, label index or -1, row number, and the task's own columns."""

    digests: list[bytes] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    extra: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class BadRows:
    """What was found wrong in one source, by reason and file."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    """reason -> (file, row) of the first ones; row 0 is the whole file."""
    unknown_labels: dict[str, None] = field(default_factory=dict)
    remarks: Counter[str] = field(default_factory=Counter)
    """What was read otherwise than it stands in the file, or passed over; these rows are not bad."""
    told: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    """remark -> (file, row) of the first ones."""
    hint: str = ""
    """Which key would read the file better, as its reader thinks."""

    def add(self, reason: str, file: str, row: int) -> None:
        """Count one bad row; the places of the first ones of each reason are kept."""
        self.counts[reason] += 1
        kept = self.first.setdefault(reason, [])
        if len(kept) < SHOWN_ROWS:
            kept.append((file, row))

    def places(self) -> dict[str, list[str]]:
        """Reason or remark -> `file row 5` of the first ones."""
        return {
            reason: [f"{Path(file).name} row {row}" for file, row in places[:SHOWN_PLACES] if row]
            for reason, places in (*self.first.items(), *self.told.items())
        }

    def lines(self) -> str:
        """One line for each reason and file, with row numbers."""
        lines = []
        for reason, places in self.first.items():
            for file in dict.fromkeys(file for file, _ in places):
                rows = [str(row) for row in sorted(row for name, row in places if name == file and row)]
                where = f" in row{'s' if len(rows) > 1 else ''} {', '.join(rows)}" if rows else ""
                lines.append(f"  {file}: {reason}{where}")
            if self.counts[reason] > len(places):
                lines[-1] += f", ... ({self.counts[reason]} in all)"
        return "\n".join(lines)


def check_rows(batches: Iterator[RawRows], check: Check, bad: BadRows) -> Iterator[GoodRows]:
    """Good rows batch by batch; what is not good goes into `bad`."""
    for batch in batches:
        for flaw in batch.flaws:
            bad.add(flaw.reason, batch.file, flaw.row)
        for remark in batch.remarks:
            bad.remarks[remark.reason] += 1
            bad.told.setdefault(remark.reason, []).append((batch.file, remark.row))
            del bad.told[remark.reason][SHOWN_ROWS:]
        bad.hint = bad.hint or batch.hint
        good = GoodRows()
        keys = list(batch.values)
        for row, *values in zip(batch.rows, *batch.values.values(), strict=True):
            try:
                found = check(dict(zip(keys, values, strict=True)))
            except UnknownLabelError as unknown:
                bad.add(UNKNOWN_LABEL, batch.file, row)
                if len(bad.unknown_labels) < SHOWN_LABELS:
                    bad.unknown_labels[str(unknown)] = None
            except BadRowError as reason:
                bad.add(str(reason), batch.file, row)
            else:
                good.digests.append(text_digest(found.identity))
                good.texts.append(found.text)
                good.labels.append(found.label)
                good.rows.append(row)
                good.extra.append(found.extra)
        if good.rows:
            yield good


def bad_rows_error(source: str, bad: BadRows, labels: list[str]) -> DataError:
    """The one error that names the source, files, reasons, rows and counts."""
    total = sum(bad.counts.values())
    reasons = ", ".join(f"{count} {reason}" for reason, count in bad.counts.most_common())
    text = f"data.sources.{source}: {total} bad row{'s' if total > 1 else ''} ({reasons})\n{bad.lines()}"
    fix = "correct the rows, or set data.on_bad_row=skip to leave them out and count them in the report"
    if bad.unknown_labels:
        found = ", ".join(repr(label) for label in bad.unknown_labels)
        text += f"\n  labels found: {found}; allowed: {', '.join(labels)}"
        spelled = _spellings(bad.unknown_labels, labels)
        fix += f"; other names of a label go into data.sources.{source}.labels"
        if len(spelled) == len(bad.unknown_labels):
            fix = f"set data.sources.{source}.labels: {inline(spelled)}; otherwise {fix}"
    if bad.hint:
        text += f"\n  {bad.hint.partition(':')[0]}"
        fix = f"{bad.hint.partition(': ')[2]}; otherwise {fix}"
    return DataError(text, fix=fix)


def _spellings(found: Iterable[str], labels: list[str]) -> dict[str, str]:
    """Found label -> the task label that differs from it in case or white space alone."""
    known = {fold_label(label): label for label in labels}
    return {text: known[fold_label(text)] for text in found if fold_label(text) in known}


def no_rows_error(source: str, bad: BadRows) -> DataError:
    """The error for a source in which no row is left, whatever on_bad_row says."""
    why = ", ".join(f"{count} {reason}" for reason, count in bad.counts.most_common()) or "there are no rows"
    return DataError(
        f"data.sources.{source}: no row is left ({why})\n{bad.lines()}".rstrip(),
        fix=bad.hint or f"check the files and data.sources.{source}.columns, or remove the source",
    )


def no_label_error(source: str, key: str, column: str, rows: int) -> DataError:
    """The error for a label column that holds no label."""
    return DataError(
        f"data.sources.{source}: none of {rows} rows has a value in the label column '{column}'",
        fix=f"set data.sources.{source}.columns.{key}: null when there are none, or name the right column",
    )
