"""Accuracy by domain as dots: teachers on the upper lane of each row, all that learned from several below."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from tutelage.report.claims import claims
from tutelage.report.figures import AccuracyRow, Report
from tutelage.report.numbers import percent
from tutelage.report.svg import Canvas, shorten, text_width, ticks

SHAPES = ("circle", "square", "triangle", "down", "star")
HUES = 8
_ROW, _TOP, _BOTTOM, _LANE = 46.0, 12.0, 34.0, 8.0
_MEAN = "mean"


@dataclass(frozen=True)
class Mark:
    """How one model looks in every plot of the page: its shape and CSS class, and its words in the key."""

    label: str
    shape: str
    css: str


def teacher_mark(report: Report, name: str) -> Mark:
    """Shape and hue of a teacher: the same on the whole page, told apart without colour too."""
    index = report.teacher_names().index(name)
    return Mark(name, SHAPES[index % len(SHAPES)], f"mark t{index % HUES}")


def marks(report: Report) -> list[tuple[Mark, AccuracyRow]]:
    """The models of the plot in drawing order: teachers, uniform, combiner, student int8, student."""
    found = claims(report)
    result = [(teacher_mark(report, row.model), row) for row in report.accuracy if row.kind == "teacher"]
    if found.uniform:
        result.append((Mark("uniform mean", "diamond", "mark hollow"), found.uniform))
    if found.combiner:
        result.append((Mark("combiner", "diamond", "mark solid"), found.combiner))
    int8 = next((row for row in report.accuracy if row.kind == "student" and row.runtime == "int8"), None)
    if int8 and int8 is not found.student:
        result.append((Mark("student int8", "circle", "mark ring"), int8))
    if found.student:
        result.append((Mark("student", "circle", "mark student"), found.student))
    return result


def accuracy_plot(report: Report, width: float, key: str) -> Markup | None:
    """Dots on one common axis of accuracy in percent; None without two models to compare."""
    shown = marks(report)
    rows = [*report.slices(), _MEAN]
    values = [v for _, row in shown for name in rows if (v := _value(row, name)) is not None]
    if len(shown) < 2 or len(rows) < 2 or not values:
        return None
    scale = [
        t for t in ticks(min(values) * 100, max(values) * 100, 6 if width > 500 else 4) if -1 <= t <= 101
    ]
    left = min(max(text_width(shorten(name, 16), 13) for name in rows) + 16, width * 0.3)
    canvas = Canvas(
        width,
        _TOP + _ROW * len(rows) + _BOTTOM,
        key=key,
        title="Accuracy by domain",
        description="; ".join(f"{mark.label} mean {percent(row.mean)} %" for mark, row in shown),
    )
    span = (width - left - 14) / ((scale[-1] - scale[0]) or 1)
    _frame(canvas, rows, scale, left, span)
    for index, name in enumerate(rows):
        middle = _TOP + _ROW * (index + 0.5)
        for mark, row in shown:
            value = _value(row, name)
            if value is not None:
                lane = -_LANE if row.kind == "teacher" else _LANE
                size = 7.5 if "ring" in mark.css else 5.0
                title = f"{mark.label} on {name}: {percent(value)} %"
                x = left + (value * 100 - scale[0]) * span
                canvas.marker(x, middle + lane, mark.shape, mark.css, title=title, size=size)
    return canvas.markup()


def _value(row: AccuracyRow, name: str) -> float | None:
    return row.mean if name == _MEAN and name not in row.by_slice else row.by_slice.get(name)


def _frame(canvas: Canvas, rows: list[str], scale: list[float], left: float, span: float) -> None:
    bottom = _TOP + _ROW * len(rows)
    for value in scale:
        x = left + (value - scale[0]) * span
        canvas.line(x, _TOP, x, bottom, "grid")
        canvas.text(x, bottom + 16, f"{value:g}", "tick", anchor="middle")
    canvas.text(canvas.width - 14, bottom + 31, "accuracy, %", "tick", anchor="end")
    for index, name in enumerate(rows):
        css = "name strong" if name == _MEAN else "name"
        canvas.text(0, _TOP + _ROW * (index + 0.5) + 4, shorten(name, 16), css)
        edge = "rule" if index == len(rows) - 1 else "hair"
        canvas.line(0, _TOP + _ROW * index, canvas.width, _TOP + _ROW * index, edge if index else "none")
    canvas.line(0, bottom, canvas.width, bottom, "hair")
