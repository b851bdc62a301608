"""Rows of the page's tables: numbers as text with common decimals in each column."""

from __future__ import annotations

from dataclasses import dataclass

from tutelage.report.claims import size_kind
from tutelage.report.figures import AccuracyRow, Report, StageFigure
from tutelage.report.numbers import column, percent
from tutelage.report.plot_size import common_condition

_TINTS = 10


@dataclass(frozen=True)
class Cell:
    """One accuracy: its text, its tint from 0 (lowest of the column) to 9, and whether it is the best."""

    text: str
    tint: int
    best: bool


@dataclass(frozen=True)
class Bar:
    """One stage on the common time axis, in percent of the total."""

    stage: StageFigure
    start: float
    width: float
    share: float


@dataclass(frozen=True)
class Artifact:
    """One file of weights: its name, whether it is the student's, and its figures as text."""

    name: str
    student: bool
    texts: tuple[str, ...]


def accuracy_cells(report: Report) -> list[tuple[AccuracyRow, list[Cell]]]:
    """The accuracy table: a cell for each domain and the mean, tinted and marked within its column."""
    columns = [[row.by_slice.get(name) for row in report.accuracy] for name in report.slices()]
    columns.append([row.mean for row in report.accuracy])
    cells = [_column(column) for column in columns]
    return [(row, [column[index] for column in cells]) for index, row in enumerate(report.accuracy)]


def _column(values: list[float | None]) -> list[Cell]:
    known = [round(value, 4) for value in values if value is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    result = []
    for value in values:
        share = 0.0 if value is None or high <= low else (round(value, 4) - low) / (high - low)
        best = value is not None and percent(value) == percent(high)
        result.append(Cell(percent(value), min(int(share * _TINTS), _TINTS - 1), best))
    return result


def bars(report: Report) -> list[Bar]:
    """Stages one after another; time outside any stage becomes a last bar when it is above one percent."""
    inside = sum(stage.seconds for stage in report.stages)
    stages = list(report.stages)
    if stages and report.seconds - inside > 0.01 * report.seconds:
        stages.append(StageFigure(name="between stages", seconds=report.seconds - inside))
    total = max(report.seconds, inside) or 1.0
    result, start = [], 0.0
    for stage in stages:
        share = 100 * stage.seconds / total
        result.append(Bar(stage, round(start, 2), round(share, 2), share))
        start += share
    return result


def artifacts(report: Report) -> list[Artifact]:
    """Size in MB, parameters in millions, p50 and p95 in ms, and texts per second of each artifact.

    Latency is that of the common condition; an artifact without a size or a latency has dashes.
    """
    condition = common_condition(report.latency)
    sizes = {row.name: row for row in report.sizes}
    times = {row.name: row for row in report.latency if (row.batch, row.tokens) == condition}
    names = list(dict.fromkeys([*sizes, *times]))
    size_rows, time_rows = [sizes.get(name) for name in names], [times.get(name) for name in names]
    columns = (
        column([row.bytes / 1e6 if row else None for row in size_rows]),
        column([row.parameters / 1e6 if row and row.parameters else None for row in size_rows], 3),
        column([row.p50_ms if row else None for row in time_rows]),
        column([row.p95_ms if row else None for row in time_rows]),
        column([row.texts_per_s if row else None for row in time_rows]),
    )
    students = [row is not None and size_kind(row, report) == "student" for row in size_rows]
    return [
        Artifact(name, student, texts)
        for name, student, *texts_list in zip(names, students, *columns, strict=True)
        for texts in (tuple(str(text) for text in texts_list),)
    ]


def latency_cells(report: Report) -> list[tuple[str, int, int, str, str, str]]:
    """All latency rows, where they were measured under more than one condition; else none."""
    rows = report.latency
    if len({(row.batch, row.tokens) for row in rows}) < 2:
        return []
    return list(
        zip(
            [row.name for row in rows],
            [row.batch for row in rows],
            [row.tokens for row in rows],
            column([row.p50_ms for row in rows]),
            column([row.p95_ms for row in rows]),
            column([row.texts_per_s for row in rows]),
            strict=True,
        )
    )
