"""Accuracy of each slice after each training in the life of the version: one line a slice."""

from __future__ import annotations

from markupsafe import Markup

from tutelage.report.numbers import percent
from tutelage.report.plot_accuracy import HUES, SHAPES
from tutelage.report.plot_curves import Panel
from tutelage.report.search.words import middle
from tutelage.report.svg import Canvas, spread, text_width, tick_text, ticks
from tutelage.report.update.figures import UpdateReport

_TOP, _BOTTOM, _LEFT, _GAP = 12.0, 38.0, 36.0, 14.0
Line = list[tuple[int, float]]


def known_slices(report: UpdateReport) -> list[str]:
    """Every slice that a training of the version brought or was measured on, in that order."""
    names = [name for one in report.history for name in (*one.slices, *one.accuracy)]
    return list(dict.fromkeys(names))


def lines_of(report: UpdateReport) -> dict[str, Line]:
    """Of each slice the number of the training (from 0) and the accuracy after it, where it was measured."""
    found = {
        name: [(n, v) for n, one in enumerate(report.history) if (v := one.accuracy.get(name)) is not None]
        for name in known_slices(report)
    }
    return {name: line for name, line in found.items() if line}


def history_plot(report: UpdateReport, width: float, key: str) -> Markup | None:
    """None for a version with fewer than three trainings: the plot of the change says as much."""
    lines = lines_of(report)
    trainings = len(report.history)
    if trainings < 3 or not lines:
        return None
    wide = width > 500
    room = 20 if wide else 9
    height = max(220.0 if wide else 200.0, _GAP * len(lines))
    right = max(text_width(f"{middle(name, room)} 00.0") for name in lines) + 28
    values = [100 * value for line in lines.values() for _, value in line]
    before = [100 * v for one in report.history for v in one.before.values() if v is not None]
    scale = tuple(tick for tick in ticks(min(values + before), max(values + before), 6) if -1 <= tick <= 101)
    panel = Panel(_LEFT, _TOP, width - _LEFT - right, height, (0.0, float(trainings - 1)), scale)
    canvas = Canvas(
        width,
        _TOP + height + _BOTTOM,
        key=key,
        title="Accuracy of each slice after each training",
        description="; ".join(_words(name, line) for name, line in lines.items()),
    )
    _axes(canvas, panel, report)
    ends = []
    for index, (name, line) in enumerate(lines.items()):
        hue = f"t{index % HUES}"
        shape = SHAPES[index % len(SHAPES)]
        canvas.polyline(_drawn(panel, line, trainings), f"curve {hue}")
        _before(canvas, panel, report, name, hue, line[0])
        for number, value in line:
            title = f"{name} after training {number + 1}: {percent(value)} %"
            place = (panel.x(number), panel.y(100 * value))
            canvas.marker(*place, shape, f"mark {hue}", title=title, size=_size(shape))
        text = f"{middle(name, room)} {percent(line[-1][1])}"
        ends.append((panel.y(100 * line[-1][1]), text, shape, f"mark {hue}"))
    places = spread([end[0] for end in ends], _GAP, _TOP, _TOP + height)
    for (_, text, shape, css), y in zip(ends, places, strict=True):
        canvas.marker(panel.left + panel.width + 16, y, shape, css, size=_size(shape))
        canvas.text(panel.left + panel.width + 24, y + 4, text, "end")
    return canvas.markup()


def _size(shape: str) -> float:
    return 6.0 if shape == "star" else 4.0  # a star of that size is hardly more than its points


def _drawn(panel: Panel, line: Line, trainings: int) -> list[tuple[float, float] | None]:
    """A training without a figure lifts the pen."""
    known = dict(line)
    places = range(line[0][0], trainings)
    return [(panel.x(n), panel.y(100 * known[n])) if n in known else None for n in places]


def _before(
    canvas: Canvas, panel: Panel, report: UpdateReport, name: str, hue: str, first: tuple[int, float]
) -> None:
    """What the version knew of a slice before it came: a hollow dot and a dotted way to the first figure."""
    number, value = first
    known = report.history[number].before.get(name)
    if number == 0 or known is None:
        return
    start = (panel.x(number - 1), panel.y(100 * known))
    canvas.polyline([start, (panel.x(number), panel.y(100 * value))], f"curve p2 {hue}")
    canvas.circle(*start, 3.5, "mark hollow", f"{name} before it came: {percent(known)} %")


def _axes(canvas: Canvas, panel: Panel, report: UpdateReport) -> None:
    step = panel.y_ticks[1] - panel.y_ticks[0]
    for value in panel.y_ticks:
        canvas.line(panel.left, panel.y(value), panel.left + panel.width, panel.y(value), "grid")
        canvas.text(panel.left - 8, panel.y(value) + 4, tick_text(value, step), "tick", anchor="end")
    bottom = panel.top + panel.height
    last = len(report.history) - 1
    letters = int(panel.width / max(last, 1) / 6.4)
    for number, one in enumerate(report.history):
        canvas.line(panel.x(number), bottom, panel.x(number), bottom + 4, "rule")
        canvas.text(panel.x(number), bottom + 18, str(number + 1), "tick", anchor="middle")
        if letters >= 5 and one.slices:
            anchor = "start" if number == 0 else "middle"
            x = 0.0 if number == 0 else panel.x(number)
            more = f" +{len(one.slices) - 1}" if len(one.slices) > 1 else ""
            name = middle(one.slices[0], max(letters - len(more), 4))
            canvas.text(x, bottom + 33, name + more, "tick", anchor=anchor)


def _words(name: str, line: Line) -> str:
    return f"{name} {', '.join(percent(value) for _, value in line)} %"
