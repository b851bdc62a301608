"""Rows of the tables of an update, as text."""

from __future__ import annotations

from dataclasses import dataclass

from tutelage.report.numbers import DASH, count, fixed, percent, points
from tutelage.report.search.words import middle, number
from tutelage.report.update.change import fallen
from tutelage.report.update.figures import UpdateReport
from tutelage.report.update.history import known_slices
from tutelage.report.update.noise import change_error, error, interval, mean_error, weight
from tutelage.report.update.summary import slice_error

_ROOM = 24
"""Letters of a slice at the head of a column."""


@dataclass(frozen=True)
class ChangeRow:
    """One slice before and after."""

    name: str
    new: bool
    rows: str
    before: str
    after: str
    change: str
    error: str
    """Standard error of the change, in points."""
    worth: str
    fallen: bool


@dataclass(frozen=True)
class Measure:
    """One number of the whole stream, what it means, and where it is from."""

    name: str
    value: str
    error: str
    meaning: str
    source: str


def change_rows(report: UpdateReport) -> list[ChangeRow]:
    """Every slice, with the error of its change."""
    return [
        ChangeRow(
            name=one.name,
            new=one.new,
            rows=count(one.rows) if one.rows else DASH,
            before=with_interval(one.before, one.rows),
            after=with_interval(one.after, one.rows),
            change=points(one.change),
            error=percent(slice_error(one)),
            worth=weight(one.change, slice_error(one)),
            fallen=fallen(report, one),
        )
        for one in report.slices
    ]


def with_interval(share: float | None, rows: int) -> str:
    """`79.8 (76.1 to 83.1)`: percent with its 95 % interval."""
    if share is None or rows <= 0:
        return percent(share)
    low, high = interval(share, rows)
    return f"{percent(share)} ({percent(low)}\u00a0to\u00a0{percent(high)})"


def history_rows(
    report: UpdateReport,
) -> tuple[list[tuple[str, str]], list[tuple[str, str, list[tuple[str, bool]]]]]:
    """The slices in full and short; of each training its number, what it brought, the accuracies after it.

    A cell is its text, and whether the slice came with this training.
    """
    names = known_slices(report)
    rows = [
        (
            str(index + 1),
            ", ".join(one.slices),
            [(_cell(one.accuracy.get(name)), name in one.slices) for name in names],
        )
        for index, one in enumerate(report.history)
    ]
    return [(name, middle(name, _ROOM)) for name in names], rows


def dip_rows(report: UpdateReport) -> list[tuple[str, str, str, str, str]]:
    """Each earlier slice: accuracy at the start, the lowest on the way, when, and the fall."""
    return [
        (
            one.slice,
            percent(one.start),
            percent(one.lowest),
            str(one.step),
            points(None if one.start is None or one.lowest is None else one.lowest - one.start),
        )
        for one in report.dips
    ]


def matrix_rows(report: UpdateReport) -> list[tuple[str, list[tuple[str, bool]]]]:
    """The accuracy matrix, where a training that brought several slices makes it another table; else none."""
    if all(len(one.slices) == 1 for one in report.history):
        return []
    return [
        (str(i + 1), [(_cell(value), i == j) for j, value in enumerate(row)])
        for i, row in enumerate(report.matrix)
    ]


def _cell(value: float | None) -> str:
    return "" if value is None else percent(value)


def training_rows(report: UpdateReport) -> list[tuple[str, str, str, str, str]]:
    """Number, what was new, the run, and the accuracy on what was new before and after, by slice."""
    rows = []
    for index, one in enumerate(report.history):
        before, after = (
            ", ".join(
                f"{name}\u00a0{percent(kept[name])}" for name in one.slices if kept.get(name) is not None
            )
            for kept in (one.before, one.accuracy)
        )
        rows.append((str(index + 1), ", ".join(one.slices), one.run, before or DASH, after or DASH))
    return rows


def measures(report: UpdateReport) -> list[Measure]:
    """ACC, BWT, FWT, forgetting and minimum, with their standard errors where the rows are known."""
    found = report.summary
    last = report.history[-1].accuracy if report.history else {}
    level = mean_error([_group_error(report, one.slices, last, None) for one in report.history])
    moved = mean_error([_group_error(report, one.slices, last, one.accuracy) for one in report.history[:-1]])
    worth = {name: weight(value, moved) for name, value in (("b", found.backward), ("f", found.forgetting))}
    said = {name: f" ({text})" if text and text != "clear" else "" for name, text in worth.items()}
    return [
        Measure("ACC", percent(found.accuracy), percent(level),
                "Mean accuracy after the last training, over what each training brought.",
                "arXiv:1706.08840"),
        Measure("BWT", points(found.backward) + said["b"], percent(moved),
                "Backward transfer: how far what earlier trainings brought has moved since it was learned; "
                "below 0 it was forgotten.", "arXiv:1706.08840"),
        *([] if found.forward is None else [
            Measure("FWT", points(found.forward), DASH,
                    "Forward transfer: how far above guessing new data was answered before it was learned.",
                    "arXiv:1706.08840")
        ]),
        Measure("forgetting", points(found.forgetting) + said["f"], percent(moved),
                "How far the last accuracy is below the best one before. The best of several noisy figures "
                "is a little too high, and so is this.", "arXiv:1801.10112"),
        Measure("minimum", percent(found.minimum), DASH,
                "The lowest accuracy that what earlier trainings brought had at any time after, in the mean.",
                "arXiv:2205.13452"),
    ]  # fmt: skip


def _group_error(
    report: UpdateReport,
    names: list[str],
    last: dict[str, float | None],
    first: dict[str, float | None] | None,
) -> float | None:
    """Standard error of the mean of slices that came together: of its level, or of its change."""
    errors: list[float | None] = []
    for name in names:
        rows, now = report.rows(name), last.get(name)
        if now is None:
            continue
        then = now if first is None else first.get(name)
        if rows <= 0 or then is None:
            errors.append(None)
        else:
            errors.append(error(now, rows) if first is None else change_error(then, now, rows))
    return mean_error(errors)


def attempt_rows(report: UpdateReport) -> list[tuple[str, str, str, str]]:
    """Lambda, accuracy on the new validation rows, the difference to plain fine-tuning, and what it means."""
    choice = report.choice
    if choice is None:
        return []
    rows = []
    for index, one in enumerate(choice.attempts):
        gap = None if one.accuracy is None or choice.plain is None else one.accuracy - choice.plain
        enough = gap is not None and gap >= -choice.tolerance
        last = index == len(choice.attempts) - 1
        word = "taken" if enough else "taken: no attempt is left" if last else "too stiff"
        if one.accuracy is None:
            word = "the penalty diverged"
        noise = None
        if one.accuracy is not None and choice.plain is not None:
            noise = weight(gap, change_error(choice.plain, one.accuracy, choice.rows))
        rows.append(
            (
                number(one.strength),
                percent(one.accuracy),
                points(gap),
                ", ".join(w for w in (word, noise) if w and w != "clear"),
            )
        )
    return rows


def memory_rows(report: UpdateReport) -> list[tuple[str, str, str]]:
    """Slice, texts and kilobytes of the memory of the new version."""
    return [(one.slice, count(one.texts), fixed(one.size_bytes / 1000)) for one in report.kept.memory]


def held_facts(report: UpdateReport) -> list[tuple[str, str]]:
    """What kept the old, in words; what was switched off says so."""
    kept = report.kept
    off = "switched off"
    lam = f"{kept.regulariser}, lambda {number(kept.strength)}, {kept.step} step" if kept.regulariser else off
    distil = f"weight {number(kept.distil_weight)}" if kept.distil_weight is not None else off
    if kept.temperature is not None:
        distil += f", temperature {number(kept.temperature)}"
    replay = off
    if kept.replay is not None:
        replay = f"{kept.replay}, {percent(kept.share)}\u00a0% of what is read"
        if kept.logits is not None:
            replay += f", stored logits with factor {number(kept.logits)}"
    return [("regulariser", lam), ("importance", kept.measured), ("distillation", distil), ("replay", replay)]


def teacher_rows(report: UpdateReport) -> list[tuple[str, str, str, str, str]]:
    """Name, calls, texts scored, texts at hand, fingerprint."""
    return [
        (one.name, count(one.calls), count(one.texts), count(one.cached), one.fingerprint)
        for one in report.kept.teachers
    ]
