"""The outcome of a search in one sentence, its key figures, and what sharing the teachers' signals saved."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from tutelage.report.numbers import DASH, count, duration, fixed, percent, significant
from tutelage.report.search.figures import SearchReport, TrialFigures
from tutelage.report.search.words import NAMES, clock, limit_text, measure, metric_text, settings
from tutelage.report.summary import Tile

_STATUS = {
    "done": "to the end",
    "stopped": "stopped early",
    "failed": "failed",
    "out-of-memory": "out of memory",
    "refused": "refused",
}


@dataclass(frozen=True)
class Asked:
    """What one teacher did, and what the same trials would have asked of it each by itself."""

    teacher: str
    calls: int
    scored: int
    alone: int

    @property
    def factor(self) -> float | None:
        """How many times fewer texts it scored; None where nothing was saved."""
        return self.alone / self.scored if 0 < self.scored < self.alone else None


def outcome(report: SearchReport) -> str:
    """What came out, in plain words."""
    time = duration(report.seconds)
    if not report.trials:
        return f"No trial ran in {time}."
    head = f"{_trials(len(report.trials))} in {time}"
    ranked = report.ranked()
    if not ranked:
        return f"{head}: none of them finished ({_list(_statuses(report))})."
    best = report.trial(report.best)
    if best is None:
        near = near_miss(report)
        limits = _list([limit_text(field, value) for field, value in report.limits.items()])
        missed = f": none met the limits ({limits})" if limits else ": none was chosen"
        found = (
            f"; the nearest is trial {near.number} with {metric_text(report, near.metric)}" if near else ""
        )
        return f"{head}{missed}{found}."
    at = settings(report, best)
    sentence = f"{head}: best {_metric(report, best.metric)}{f' at {at}' if at else ''}"
    return sentence + _against(report, best.metric) + "."


def _against(report: SearchReport, value: float | None) -> str:
    base = report.baseline_metric
    if base is None or value is None:
        return ""
    text = metric_text(report, base)
    if text == metric_text(report, value):
        return "; the job as it is reaches the same"
    ahead = value > base if report.mode == "max" else value < base
    return f"; job as it is: {text}" if ahead else f"; the job as it is stays better: {text}"


def near_miss(report: SearchReport) -> TrialFigures | None:
    """The trial that is nearest to the limits, where none met them all."""
    return report.trial(report.near_miss)


def misses(report: SearchReport) -> list[str]:
    """How the nearest trial stands to each limit; the text of the near miss where it names no trial."""
    near = near_miss(report)
    if near is None:
        return [report.near_miss] if report.near_miss else []
    sentences = []
    for field, limit in report.limits.items():
        value = getattr(near, field, None)
        if not isinstance(value, int | float):
            sentences.append(f"{NAMES.get(field, field)} is not known (limit: {limit_text(field, limit)})")
            continue
        met = value >= limit if field == "accuracy" else value <= limit
        off = f"{percent(abs(value - limit) / abs(limit), 0)} % off" if limit else "off"
        state = "met" if met else off
        sentences.append(
            f"{NAMES.get(field, field)} {measure(field, value)}, limit {measure(field, limit)}: {state}"
        )
    return sentences


def tiles(report: SearchReport) -> list[Tile]:
    """Best, trials, teacher calls and time; those without a figure are left out."""
    return [tile for tile in (_best(report), _count(report), _calls(report), _time(report)) if tile]


def _best(report: SearchReport) -> Tile | None:
    best = report.trial(report.best)
    if best is None or best.metric is None:
        return None
    base = report.baseline_metric
    notes = [f"trial {best.number}"]
    if base is not None:
        notes.append(f"job as it is {metric_text(report, base)}")
    notes += [
        f"{NAMES[field]} {measure(field, value)}"
        for field in ("latency_ms", "size_mb")
        if field in report.objectives and (value := getattr(best, field)) is not None
    ]
    unit = "%" if report.metric == "accuracy" else ""
    return Tile(f"Best validation {report.metric}", metric_text(report, best.metric, ""), unit, tuple(notes))


def _count(report: SearchReport) -> Tile:
    return Tile("Trials", count(len(report.trials)), "", tuple(_statuses(report)))


def _calls(report: SearchReport) -> Tile | None:
    if not report.teacher_calls:
        return None
    total = sum(report.teacher_calls.values())
    rows = asked(report)
    scored, alone = sum(row.scored for row in rows), sum(row.alone for row in rows)
    notes = [f"{count(scored)} texts scored"] if scored else []
    if 0 < scored < alone:
        notes += [f"{count(alone - scored)} saved, {fixed(alone / scored)} times fewer"]
    return Tile("Teacher calls", count(total), "", tuple(notes))


def _time(report: SearchReport) -> Tile:
    value, unit = clock(report.seconds)
    known = [trial.seconds for trial in report.trials if trial.seconds is not None]
    notes = (f"{duration(sum(known))} in trials",) if known else ()
    return Tile("Total time", value, unit, notes)


def asked(report: SearchReport) -> list[Asked]:
    """A row for each teacher.

    alone: every trial asks for each training text once and nothing is kept between trials; a trial that was
    stopped asks for the share that it ran. It is the least that trials without a common store can ask for.
    """
    ran = sum(trial.progress for trial in report.trials)
    names = dict.fromkeys([*report.teacher_calls, *report.texts_scored])
    return [
        Asked(
            name,
            report.teacher_calls.get(name, 0),
            report.texts_scored.get(name, 0),
            round(report.texts * ran),
        )
        for name in names
    ]


def difference(report: SearchReport, value: float | None, base: float | None) -> str:
    """The difference of two metrics as they are printed, with its sign and unit."""
    if value is None or base is None:
        return DASH
    if report.metric == "loss":
        return significant(value - base)
    points = round(round(value * 100, 1) - round(base * 100, 1), 1)
    sign = "+" if points > 0 else ""
    return f"{sign}{fixed(points)}\u00a0points"


def _metric(report: SearchReport, value: float | None) -> str:
    return ("loss " if report.metric == "loss" else "") + metric_text(report, value)


def _statuses(report: SearchReport) -> list[str]:
    found = Counter[str](trial.status for trial in report.trials)
    return [f"{found[status]} {words}" for status, words in _STATUS.items() if found[status]]


def _trials(number: int) -> str:
    return "1 trial" if number == 1 else f"{number:,} trials"


def _list(parts: list[str]) -> str:
    return ", ".join(parts)
