"""Rows of the tables of a search: texts only, with common decimals in each column."""

from __future__ import annotations

from dataclasses import dataclass

from tutelage.report.numbers import DASH, column, count, duration, fixed, percent
from tutelage.report.search.figures import SearchReport, TrialFigures
from tutelage.report.search.summary import difference
from tutelage.report.search.words import SIGNS, limit_text, measure, metric_text, number, plain, short_names
from tutelage.report.svg import shorten

MOST_ROWS = 50
_LONG = 26


@dataclass(frozen=True)
class Cell:
    """A text, in full for who points at it where it was cut, and whether it is a number."""

    text: str
    full: str = ""
    numeric: bool = False


@dataclass(frozen=True)
class Row:
    """One trial: its state as a sign and in words, and its cells."""

    trial: TrialFigures
    sign: str
    state: str
    detail: str
    best: bool
    front: bool
    cells: list[Cell]


def trial_table(report: SearchReport) -> tuple[list[Cell], list[Row]]:
    """Head and rows: trials by rank, those without a metric last, at most `MOST_ROWS`."""
    trials = [*report.ranked(), *report.unranked()][:MOST_ROWS]
    head: list[Cell] = []
    columns: list[list[Cell]] = []

    def numbers(name: str, texts: list[str]) -> None:
        if any(text != DASH for text in texts):
            head.append(Cell(name, numeric=True))
            columns.append([Cell(text, numeric=True) for text in texts])

    amounts = {
        "latency_ms": ("latency, ms", column([trial.latency_ms for trial in trials], 3)),
        "size_mb": ("size, MB", column([trial.size_mb for trial in trials], 3)),
        "weights": ("weights, million", column([_millions(trial.weights) for trial in trials], 3)),
    }
    wanted = [field for field in amounts if field in report.objectives or field in report.limits]
    if report.metric == "loss":
        numbers("loss", [fixed(trial.loss, 3) for trial in trials])
    numbers("accuracy, %", [percent(trial.accuracy) for trial in trials])
    for field in wanted:
        numbers(*amounts[field])
    for key, name in short_names([key.key for key in report.keys]).items():
        cells = [_value(trial, key) for trial in trials]
        numeric = all(cell.numeric or cell.text == DASH for cell in cells)
        head.append(_cut(name, key, numeric=numeric))
        columns.append(cells)
    if report.metric == "accuracy":
        numbers("loss", [fixed(trial.loss, 3) for trial in trials])
    for field, (name, texts) in amounts.items():
        if field not in wanted:
            numbers(name, texts)
    numbers("time", [duration(trial.seconds) for trial in trials])
    names = {trial.id: str(trial.number) for trial in report.trials}
    rows = [
        Row(
            trial,
            SIGNS[trial.status],
            trial.status.replace("-", " "),
            _detail(trial, names),
            trial.id == report.best,
            trial.id in report.front,
            [cells[place] for cells in columns],
        )
        for place, trial in enumerate(trials)
    ]
    return head, rows


def failures(report: SearchReport) -> list[Row]:
    """The trials that gave no metric, or say what went wrong, with the reason."""
    found = [t for t in report.trials if t.status not in ("done", "stopped") or t.error]
    keys = [key.key for key in report.keys]
    names = short_names(keys)
    return [
        Row(
            trial,
            SIGNS[trial.status],
            trial.status.replace("-", " "),
            ", ".join(f"{names[k]} {shorten(plain(trial.values[k]), 40)}" for k in keys if k in trial.values),
            False,
            False,
            [_cut(trial.error or "no reason was given", "", most=400)],
        )
        for trial in sorted(found, key=lambda trial: trial.number)
    ]


def searched(report: SearchReport) -> list[tuple[str, str, str, str]]:
    """Each key with the range that was searched, how, and the value of the best trial."""
    best = report.trial(report.best)
    scales = {"float": "even", "log": "logarithmic", "int": "whole numbers", "choice": "one of these"}
    rows = []
    for key in report.keys:
        texts = [shorten(plain(value), 60) for value in key.values]
        span = f"{_end(key.low)} to {_end(key.high)}" if key.kind != "choice" else ", ".join(texts)
        value = plain(best.values[key.key]) if best and key.key in best.values else ""
        rows.append((key.key, span, scales[key.kind], shorten(value, 60)))
    return rows


def winner_facts(report: SearchReport) -> list[tuple[str, str]]:
    """What the winner reached, each figure beside the job as it is."""
    winner = report.winner
    if winner is None:
        return []
    trial = report.trial(winner.trial)
    base = report.baseline.accuracy if report.baseline else None
    accuracy = percent(winner.accuracy) + "\u00a0%" if winner.accuracy is not None else ""
    facts = [
        ("trial", str(trial.number) if trial else winner.trial),
        ("run", winner.run),
        ("version", winner.version or ""),
        ("validation accuracy", accuracy),
        ("job as it is", percent(base) + "\u00a0%" if base is not None else ""),
    ]
    if report.metric == "accuracy" and base is not None and winner.accuracy is not None:
        facts.append(("difference", difference(report, winner.accuracy, base)))
    for name, field, value in (
        ("test accuracy", "accuracy", winner.test_accuracy),
        ("int8 accuracy", "accuracy", winner.int8_accuracy),
        ("latency", "latency_ms", winner.latency_ms),
        ("size", "size_mb", winner.size_mb),
    ):
        facts.append((name, measure(field, value) if value is not None else ""))
    return facts


def optimism(report: SearchReport) -> str:
    """How far the validation figure of the winner can be trusted."""
    trials, winner = len(report.ranked()), report.winner
    if winner is None or trials < 2:
        return ""
    first = f"The best of {trials:,} trials on one validation split looks a little better than it is"
    if winner.test_accuracy is None:
        return f"{first}; it was not measured on the test split."
    return f"{first}; the test split had no part in the choice."


def setup(report: SearchReport) -> list[tuple[str, str]]:
    """How the search was set up."""
    word = "highest" if report.mode == "max" else "lowest"
    return [
        ("command", report.command),
        ("search", report.search),
        ("job", report.job),
        ("wanted", f"{word} validation {report.metric}"),
        ("objectives", ", ".join(report.objectives)),
        ("limits", ", ".join(limit_text(field, value) for field, value in report.limits.items())),
        ("searcher", report.searcher),
        ("scheduler", report.scheduler),
        ("training texts", count(report.texts) if report.texts else ""),
        ("kinds of signals", count(report.payloads) if report.payloads else ""),
        *report.machine.items(),
    ]


def near_settings(report: SearchReport, trial: TrialFigures) -> list[tuple[str, str]]:
    """The values of a trial, and what it reached."""
    names = short_names([key.key for key in report.keys])
    values = [
        (name, shorten(plain(trial.values[key]), 60)) for key, name in names.items() if key in trial.values
    ]
    return [("trial", str(trial.number)), (report.metric, metric_text(report, trial.metric)), *values]


def _value(trial: TrialFigures, key: str) -> Cell:
    if key not in trial.values:
        return Cell(DASH)
    value = trial.values[key]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Cell(number(value), numeric=True)
    return _cut(plain(value), "")


def _cut(text: str, full: str, *, most: int = _LONG, numeric: bool = False) -> Cell:
    short = shorten(text, most)
    return Cell(short, full if full and full != short else text if text != short else "", numeric)


def _detail(trial: TrialFigures, names: dict[str, str]) -> str:
    parts = [f"after {percent(trial.progress, 0)} %"] if trial.status == "stopped" else []
    if trial.parent:
        parts.append(f"weights from {names.get(trial.parent, trial.parent)}")
    return ", ".join(parts)


def _end(value: float | None) -> str:
    return DASH if value is None else number(int(value) if value.is_integer() else value)


def _millions(value: int | None) -> float | None:
    return None if value is None else value / 1e6
