"""Accuracy by domain as dots in three lanes a row: teachers, what combines them, and the student."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from tutelage.report.claims import claims
from tutelage.report.figures import AccuracyRow, Report
from tutelage.report.numbers import capital, percent
from tutelage.report.svg import Canvas, shorten, text_width, ticks

SHAPES = ("circle", "square", "triangle", "down", "star")
HUES = 8
_ROW, _TOP, _BOTTOM = 54.0, 10.0, 24.0
_LANES = {"teacher": -14.0, "ensemble": 0.0, "combiner": 0.0, "student": 14.0}
_MEAN = "mean"


@dataclass(frozen=True)
class Mark:
    """How one model looks in every plot of the page: its shape and CSS class, and its words in the key."""

    label: str
    shape: str
    css: str

    @property
    def size(self) -> float:
        """Half its width in pixels; a ring goes around a disc."""
        return 7.5 if "ring" in self.css else 5.0


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
    scale = [t for t in ticks(min(values) * 100, max(values) * 100, 6) if -1 <= t <= 101]
    left = min(max(text_width(shorten(name, 16), 13) for name in rows) + 16, width * 0.3)
    canvas = Canvas(
        width,
        _TOP + _ROW * len(rows) + _BOTTOM,
        key=key,
        title=f"{capital(report.measure)} by domain",
        description="; ".join(f"{mark.label} mean {percent(row.mean)} %" for mark, row in shown),
    )
    span = (width - left - 18) / ((scale[-1] - scale[0]) or 1)
    _frame(canvas, rows, scale, left, span)
    for index, name in enumerate(rows):
        middle = _TOP + _ROW * (index + 0.5)
        furthest: dict[float, tuple[float, float, str]] = {}
        for mark, row in shown:
            value = _value(row, name)
            if value is not None:
                lane = middle + _LANES[row.kind]
                x = left + (value * 100 - scale[0]) * span
                title = f"{mark.label} on {name}: {percent(value)} %"
                canvas.marker(x, lane, mark.shape, mark.css, title=title, size=mark.size)
                end = (x, value, "end student" if row.kind == "student" else "end")
                furthest[lane] = max(furthest.get(lane, end), end)
        if index == len(rows) - 1:
            for lane, (x, value, css) in furthest.items():
                canvas.text(x + 13, lane + 4, percent(value), css)
    return canvas.markup()


def _value(row: AccuracyRow, name: str) -> float | None:
    return row.mean if name == _MEAN and name not in row.by_slice else row.by_slice.get(name)


def _frame(canvas: Canvas, rows: list[str], scale: list[float], left: float, span: float) -> None:
    bottom = _TOP + _ROW * len(rows)
    for value in scale:
        x = left + (value - scale[0]) * span
        canvas.line(x, _TOP, x, bottom, "grid")
        canvas.text(x, bottom + 16, f"{value:g}\u00a0%", "tick", anchor="middle")
    for index, name in enumerate(rows):
        css = "name strong" if name == _MEAN else "name"
        canvas.text(0, _TOP + _ROW * (index + 0.5) + 4, shorten(name, 16), css)
        edge = "rule" if index == len(rows) - 1 else "hair"
        canvas.line(0, _TOP + _ROW * index, canvas.width, _TOP + _ROW * index, edge if index else "none")
    canvas.line(0, bottom, canvas.width, bottom, "hair")
