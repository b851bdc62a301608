"""Each slice before and after the update: two dots with their 95 % intervals, and the gate's limit."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from tutelage.report.numbers import count, percent, points
from tutelage.report.search.words import middle
from tutelage.report.svg import Canvas, coordinate, text_width, ticks
from tutelage.report.update.figures import SliceFigure, UpdateReport
from tutelage.report.update.noise import change_error, interval, weight

_ROW, _TOP, _BOTTOM = 50.0, 8.0, 24.0
_LANE = 7.0
"""Pixels from the middle of a row to either dot."""
_FAR = 0.1
"""A limit so far below `before` is drawn only where the axis reaches it anyway."""


@dataclass(frozen=True)
class _Axis:
    """The common scale: accuracy in percent to pixels."""

    left: float
    right: float
    scale: list[float]

    def x(self, share: float) -> float:
        low, high = self.scale[0], self.scale[-1]
        inside = min(max(share * 100, low), high)
        return self.left + (self.right - self.left) * (inside - low) / ((high - low) or 1)


def change_plot(report: UpdateReport, width: float, key: str) -> Markup | None:
    """Rows of dots on one axis of accuracy; None where nothing was measured."""
    shown = [one for one in report.slices if one.after is not None]
    if not shown:
        return None
    wide = width > 500
    notes = [_subtitle(one) for one in shown]
    room = 26 if wide else 15
    left = max(
        *(text_width(middle(one.name, room), 13) for one in shown), *(text_width(note, 11) for note in notes)
    ) + (22 if wide else 14)
    texts = [_side(one, wide=wide) for one in shown]
    right = width - max(text_width(text) for text in texts) - 16
    axis = _Axis(left, right, _scale(report, shown, wide=wide))
    bottom = _TOP + _ROW * len(shown)
    canvas = Canvas(
        width,
        bottom + _BOTTOM,
        key=key,
        title="Accuracy of each slice before and after the update",
        description="; ".join(_words(one) for one in shown),
    )
    for value in axis.scale:
        x = axis.x(value / 100)
        canvas.line(x, _TOP, x, bottom, "grid")
        canvas.text(x, bottom + 17, f"{value:g}\u00a0%", "tick", anchor="middle")
    for index, one in enumerate(shown):
        top = _TOP + _ROW * index
        if index:
            canvas.line(0, top, width, top, "hair")
        canvas.text(0, top + 22, middle(one.name, room), "name strong" if one.new else "name")
        canvas.text(0, top + 37, notes[index], "tick")
        _limit(canvas, axis, report, one, top)
        _pair(canvas, axis, report, one, top + _ROW / 2)
        css = "end fallen" if fallen(report, one) else "end student" if one.new else "end"
        canvas.text(width, top + _ROW / 2 + 4, texts[index], css, anchor="end")
    canvas.line(0, bottom, width, bottom, "hair")
    return canvas.markup()


def fallen(report: UpdateReport, one: SliceFigure) -> bool:
    """Whether an earlier slice fell by more than the gate allows."""
    return not one.new and one.change is not None and -one.change > report.max_forgetting + 1e-12


def limits_shown(report: UpdateReport) -> bool:
    """Whether the gate's limit of any slice stands within the axis."""
    shown = [one for one in report.slices if one.after is not None]
    low = _scale(report, shown)[0] / 100 if shown else 0.0
    return any(
        one.before is not None and one.before - report.max_forgetting > low for one in report.earlier()
    )


def _scale(report: UpdateReport, shown: list[SliceFigure], *, wide: bool = True) -> list[float]:
    ends = [
        end
        for one in shown
        for v in (one.before, one.after)
        if v is not None
        for end in interval(v, one.rows)
    ]
    if report.max_forgetting <= _FAR:
        ends += [one.before - report.max_forgetting for one in report.earlier() if one.before is not None]
    found = ticks(max(min(ends), 0.0) * 100, min(max(ends), 1.0) * 100, 7 if wide else 6)
    return [tick for tick in found if -1 <= tick <= 101]


def _limit(canvas: Canvas, axis: _Axis, report: UpdateReport, one: SliceFigure, top: float) -> None:
    """The tick of the gate, and the band below it in which the candidate fails."""
    if one.new or one.before is None:
        return
    at = one.before - report.max_forgetting
    if at * 100 <= axis.scale[0]:
        return
    x, y, height = axis.x(at), top + 5, _ROW - 10
    left = coordinate(axis.left)
    band = f"M{left},{coordinate(y)}H{coordinate(x)}v{coordinate(height)}H{left}Z"
    canvas.path(band, "beyond", f"{one.name}: the gate stops a candidate below {percent(at)} %")
    canvas.line(x, y, x, y + height, "limit")


def _pair(canvas: Canvas, axis: _Axis, report: UpdateReport, one: SliceFigure, y: float) -> None:
    """Both dots with their intervals, and what joins them."""
    ends = [
        (one.before, y - _LANE, "mark hollow", "before"),
        (one.after, y + _LANE, _after(report, one), "after"),
    ]
    if one.before is not None and one.after is not None:
        canvas.line(axis.x(one.before), y - _LANE, axis.x(one.after), y + _LANE, "joint")
    for value, lane, css, when in ends:
        if value is None:
            continue
        low, high = interval(value, one.rows)
        if high > low:
            start, end = coordinate(axis.x(low)), coordinate(axis.x(high))
            cap = f"{coordinate(lane - 3)}v6"
            canvas.path(f"M{start},{coordinate(lane)}H{end}M{start},{cap}M{end},{cap}", "whisker thin")
        title = f"{one.name} {when}: {percent(value)} %"
        if high > low:
            title += f", 95 % interval {percent(low)} to {percent(high)} % on {count(one.rows)} rows"
        shape = "diamond" if one.new else "circle"
        canvas.marker(axis.x(value), lane, shape, css, title=title, size=5)


def _after(report: UpdateReport, one: SliceFigure) -> str:
    return "mark fallen" if fallen(report, one) else "mark student"


def _subtitle(one: SliceFigure) -> str:
    rows = f"{count(one.rows)} rows" if one.rows else "rows unknown"
    return f"new, {rows}" if one.new else rows


def _side(one: SliceFigure, *, wide: bool) -> str:
    if one.change is None or one.before is None or one.after is None:
        return "no figure before" if wide else ""
    worth = weight(one.change, change_error(one.before, one.after, one.rows))
    if worth == "no change":
        return "0.0, no change" if wide else "0.0"
    return f"{points(one.change)}, {worth}" if wide and worth else points(one.change)


def _words(one: SliceFigure) -> str:
    before = f"{percent(one.before)} to " if one.before is not None else ""
    return f"{one.name}{' (new)' if one.new else ''} {before}{percent(one.after)} %"
