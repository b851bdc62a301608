"""Loss against step: a smoothed line over the faint raw one, labelled at its end.

Smoothing: mean over neighbours with weights that fall linearly to zero at a fortieth of the points on either
side, so that the line does not lag behind the loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tutelage.report.figures import Curve, Report
from tutelage.report.numbers import percent, significant
from tutelage.report.plot_accuracy import teacher_mark
from tutelage.report.svg import Canvas, shorten, spread, text_width, tick_text, ticks

_MOST_POINTS = 240
_MOST_SMOOTHED = 960  # smoothing takes time with the square of the points
_PARTS = 4

Series = list[tuple[float, float | None]]


@dataclass(frozen=True)
class Panel:
    """A rectangle of a canvas with linear scales from data to pixels."""

    left: float
    top: float
    width: float
    height: float
    x_range: tuple[float, float]
    y_ticks: tuple[float, ...]

    def x(self, value: float) -> float:
        """Pixel of a step."""
        low, high = self.x_range
        return self.left + self.width * (value - low) / ((high - low) or 1)

    def y(self, value: float) -> float:
        """Pixel of a value, kept inside the panel."""
        low, high = self.y_ticks[0], self.y_ticks[-1]
        share = min(max((value - low) / ((high - low) or 1), 0.0), 1.0)
        return self.top + self.height * (1 - share)


def smooth(series: Series) -> Series:
    """The triangular mean around each point; missing values stay missing and do not count."""
    reach = max(2, len(series) // 40)
    result: Series = []
    for index, (step, value) in enumerate(series):
        near = range(max(index - reach, 0), min(index + reach + 1, len(series)))
        weighted = [(reach + 1 - abs(index - n), v) for n in near if (v := series[n][1]) is not None]
        total = sum(weight for weight, _ in weighted)
        result.append((step, None if value is None else sum(w * v for w, v in weighted) / total))
    return result


def thin(series: Series, most: int = _MOST_POINTS) -> Series:
    """At most `most` points: means of equal groups of neighbours, so that a long run stays a small file."""
    if len(series) <= most:
        return series
    size = -(-len(series) // most)
    groups = (series[start : start + size] for start in range(0, len(series), size))
    return [(group[-1][0], _mean([value for _, value in group if value is not None])) for group in groups]


def student_plot(curve: Curve, width: float, key: str) -> Markup | None:
    """The student's loss with its parts and, where it was measured, validation accuracy below."""
    series = {"total": _series(curve)}
    parts = list(dict.fromkeys(name for point in curve.points for name in point.parts))
    if len(parts) > 1:
        series |= {
            name: thin([(float(p.step), p.parts.get(name)) for p in curve.points], _MOST_SMOOTHED)
            for name in parts[:_PARTS]
        }
    accuracy: Series = [(float(p.step), p.accuracy) for p in curve.points if p.accuracy is not None]
    if not any(value is not None for line in series.values() for _, value in line):
        return None
    scale = ticks(0.0, _top(list(series.values())), 6)
    right = max(text_width(shorten(name, 16)) for name in series) + 50
    height = 270.0 if width > 500 else 230.0
    extra = 106.0 if accuracy else 0.0
    steps = (float(curve.points[0].step), float(curve.points[-1].step))
    panel = Panel(38, 22, width - 38 - right, height - 52, steps, tuple(scale))
    last = ", ".join(f"{name} {significant(_last(line))}" for name, line in series.items())
    canvas = Canvas(
        width,
        height + extra,
        key=key,
        title=f"Loss of {curve.name} by step",
        description=f"Last values: {last}.",
    )
    _axes(canvas, panel, "loss", steps_below=not accuracy)
    ends = []
    for index, (name, line) in enumerate(series.items()):
        css = "student" if index == 0 else f"part p{index}"
        if index == 0:
            _line(canvas, panel, thin(line), "curve raw student")
        smoothed = thin(smooth(line))
        _line(canvas, panel, smoothed, f"curve {css}")
        ends.append((panel.y(_last(smoothed) or 0.0), name, css, _last(smoothed)))
    heights = spread([end[0] for end in ends], 15, panel.top + 4, panel.top + panel.height)
    for (_, name, css, value), y in zip(ends, heights, strict=True):
        canvas.text(
            panel.left + panel.width + 8, y + 4, f"{shorten(name, 16)} {significant(value)}", f"end {css}"
        )
    if accuracy:
        _accuracy(canvas, panel, accuracy, height)
    return canvas.markup()


def teachers_plot(report: Report, width: float, key: str) -> Markup | None:
    """One small panel a teacher, all on the same scales."""
    curves = [c for c in report.curves if c.kind == "teacher" and any(p.loss is not None for p in c.points)]
    if not curves:
        return None
    columns = min(len(curves), 4 if len(curves) == 4 and width > 500 else 3 if width > 500 else 2)
    rows = -(-len(curves) // columns)
    cell_width, cell_height = width / columns, 158.0 if width > 500 else 138.0
    scale = tuple(ticks(0.0, _top([_series(curve) for curve in curves]), 4))
    reach = (float(min(c.points[0].step for c in curves)), float(max(c.points[-1].step for c in curves)))
    canvas = Canvas(
        width,
        rows * cell_height,
        key=key,
        title="Loss of each teacher by step",
        description="; ".join(f"{c.name} ends at {significant(_last(_series(c)))}" for c in curves),
    )
    for index, curve in enumerate(curves):
        left = (index % columns) * cell_width + (30 if width > 500 else 28)
        top = (index // columns) * cell_height + 26
        panel = Panel(left, top, cell_width - (54 if width > 500 else 40), cell_height - 54, reach, scale)
        hue = teacher_mark(report, curve.name).css.split()[1]
        _axes(canvas, panel, "", steps_below=True)
        _line(canvas, panel, thin(_series(curve)), f"curve raw {hue}")
        smoothed = thin(smooth(_series(curve)))
        _line(canvas, panel, smoothed, f"curve {hue}")
        canvas.text(left, top - 10, shorten(curve.name, int(cell_width / 14)), "name")
        canvas.text(left + panel.width, top - 10, significant(_last(smoothed)), f"end {hue}", anchor="end")
    return canvas.markup()


def _series(curve: Curve) -> Series:
    return thin([(float(point.step), point.loss) for point in curve.points], _MOST_SMOOTHED)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _last(series: Series) -> float | None:
    return next((value for _, value in reversed(series) if value is not None), None)


def _top(lines: Sequence[Series]) -> float:
    """The height that shows every smoothed line whole; single raw peaks may be cut."""
    return max((value for line in lines for _, value in smooth(line) if value is not None), default=1.0)


def _line(canvas: Canvas, panel: Panel, series: Series, css: str) -> None:
    canvas.polyline([None if v is None else (panel.x(s), panel.y(v)) for s, v in series], css)


def _axes(canvas: Canvas, panel: Panel, label: str, *, steps_below: bool) -> None:
    step = panel.y_ticks[1] - panel.y_ticks[0]
    for value in panel.y_ticks:
        canvas.line(panel.left, panel.y(value), panel.left + panel.width, panel.y(value), "grid")
        canvas.text(panel.left - 6, panel.y(value) + 4, tick_text(value, step), "tick", anchor="end")
    if label:
        canvas.text(0, panel.top - 10, label, "tick")
    if steps_below:
        bottom = panel.top + panel.height + 17
        low, high = panel.x_range
        canvas.text(panel.left, bottom, f"{low:,.0f}", "tick")
        canvas.text(panel.left + panel.width, bottom, f"step {high:,.0f}", "tick", anchor="end")


def _accuracy(canvas: Canvas, above: Panel, series: Series, top: float) -> None:
    known = [value * 100 for _, value in series if value is not None]
    scale = tuple(ticks(min(known), max(known), 3))
    panel = Panel(above.left, top + 8, above.width, 62, above.x_range, scale)
    _axes(canvas, panel, "", steps_below=True)
    canvas.text(0, top - 2, "validation accuracy, %", "tick")
    _line(canvas, panel, [(s, v * 100 if v is not None else None) for s, v in series], "curve student")
    for step, value in series:
        if value is not None and len(series) <= _MOST_POINTS // 4:
            canvas.circle(
                panel.x(step), panel.y(value * 100), 3, "dot student", f"step {step:,.0f}: {percent(value)} %"
            )
    y = panel.y(known[-1])
    canvas.text(panel.left + panel.width + 8, y + 4, percent(known[-1] / 100), "end student")
