"""All trials as lines over parallel axes: one for each searched key, the metric at the end.

On a wide page the axes stand side by side; on a narrow one they lie below each other, so that each keeps the
whole width for its values.
"""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from tutelage.report.search.figures import SearchReport, TrialFigures
from tutelage.report.search.scales import Axis, axis, grades, metric_scale
from tutelage.report.search.words import metric_text, middle, settings, short_names, shown, tooltip
from tutelage.report.svg import Canvas, coordinate, shorten, text_width

MOST_AXES = 8
_FEW = 60
_LANE = 58.0  # pixels from one lying axis to the next


@dataclass(frozen=True)
class Layout:
    """Where axis number `index` stands, and where a share of it is."""

    upright: bool
    left: float
    top: float
    step: float
    length: float

    def at(self, index: int, share: float) -> tuple[float, float]:
        """The pixel of a share of an axis."""
        if self.upright:
            return self.left + index * self.step, self.top + self.length * (1 - share)
        return self.left + self.length * share, self.top + index * self.step


def drawn_keys(report: SearchReport) -> list[str]:
    """The keys that get an axis: all, or where there are too many the most important ones, in their order."""
    keys = [key.key for key in report.keys]
    if len(keys) <= MOST_AXES:
        return keys
    weight = {item.key: item.mean for item in report.importances}
    best = sorted(keys, key=lambda key: -weight.get(key, 0.0))[:MOST_AXES]
    return [key for key in keys if key in best]


def parallel_plot(report: SearchReport, width: float, key: str) -> Markup | None:
    """The lines of all trials; None without a searched key or a ranked trial."""
    wanted = drawn_keys(report)
    ranked = report.ranked()
    axes = [
        found
        for searched in report.keys
        if searched.key in wanted
        and (
            found := axis(
                searched, [t.values[searched.key] for t in report.trials if searched.key in t.values]
            )
        )
    ]
    if not axes or not ranked:
        return None
    metric = Axis(report.metric, metric_scale(report, [t.metric for t in ranked if t.metric is not None], 5))
    upright = width > 500
    count = len(axes) + 1
    height = 350.0 if upright else 34 + _LANE * len(axes) + 40
    last = max(text_width(text, 11) for _, text in metric.marks) + 14
    layout = (
        Layout(True, 14, 40, (width - 14 - last - 42) / max(count - 1, 1), height - 64)
        if upright
        else Layout(False, 10, 34, _LANE, width - 24)
    )
    best = report.trial(report.best) or ranked[0]
    canvas = Canvas(
        width,
        height,
        key=key,
        title=f"The values of every trial and the {report.metric} that they led to",
        description=f"Best: trial {best.number}, {metric_text(report, best.metric)} at"
        f" {settings(report, best, MOST_AXES)}.",
    )
    for index in range(count):
        ends = layout.at(index, 0.0), layout.at(index, 1.0)
        canvas.line(*ends[0], *ends[1], "axis")
    _lines(canvas, report, layout, [*axes, metric], best)
    names = short_names([found.key for found in axes])
    for index, found in enumerate(axes):
        _labels(canvas, layout, index, found, names[found.key])
    unit = ", %" if report.metric == "accuracy" else ""
    _labels(canvas, layout, count - 1, metric, report.metric + unit, strong=True)
    return canvas.markup()


def _lines(
    canvas: Canvas, report: SearchReport, layout: Layout, axes: list[Axis], best: TrialFigures
) -> None:
    fifths = grades(report)
    ranked = report.ranked()
    many = " many" if len(report.trials) > _FEW else ""
    within = {trial.id: 1 - place / max(len(ranked) - 1, 1) for place, trial in enumerate(ranked)}
    for trial in report.unranked():
        points = _points(report, layout, axes, trial, 0.0)
        canvas.polyline(points, "curve lost" + many)
    for trial in reversed(ranked):
        points = _points(report, layout, axes, trial, within[trial.id])
        if trial.id == best.id:
            canvas.polyline(points, "curve under")
        css = "curve best" if trial.id == best.id else f"curve q{fifths[trial.id]}{many}"
        drawn = [f"{coordinate(point[0])},{coordinate(point[1])}" for point in points if point]
        if None in points or trial.id == best.id:
            canvas.polyline(points, css)
        else:
            canvas.path("M" + "L".join(drawn), css, tooltip(report, trial))
    if best.id in within:
        for point in _points(report, layout, axes, best, within[best.id]):
            if point:
                canvas.circle(*point, 4, "mark student", tooltip(report, best))


def _points(
    report: SearchReport, layout: Layout, axes: list[Axis], trial: TrialFigures, within: float
) -> list[tuple[float, float] | None]:
    shares = [
        found.share(trial.values[found.key], within) if found.key in trial.values else None
        for found in axes[:-1]
    ]
    shares.append(None if trial.metric is None else axes[-1].share(shown(report, trial.metric), within))
    return [None if share is None else layout.at(index, share) for index, share in enumerate(shares)]


def _labels(
    canvas: Canvas, layout: Layout, index: int, found: Axis, name: str, *, strong: bool = False
) -> None:
    css = "name strong halo" if strong else "name halo"
    x, y = layout.at(index, 1.0 if layout.upright else 0.0)
    room = max(int((layout.step if layout.upright else layout.length) / 7.6), 5)
    if not layout.upright:
        canvas.text(x - 10, y - 12, middle(name, room), css)
    elif index == 0 and text_width(name, 13) > 2 * layout.left:
        # The first name starts at the edge of the page and ends where the second one begins.
        canvas.text(0, y - 20, middle(name, int((layout.left + layout.step / 2) / 7.6)), css)
    else:
        canvas.text(x, y - 20, middle(name, room), css, anchor="middle")
    for share, text in _thinned(found, layout, room):
        x, y = layout.at(index, share)
        if layout.upright:
            canvas.line(x - 3, y, x + 3, y, "axis")
            canvas.text(x + 7, y + 4, text, "tick halo")
        else:
            canvas.line(x, y - 3, x, y + 3, "axis")
            anchor, place = _below(x, text, layout)
            canvas.text(place, y + 16, text, "tick halo", anchor=anchor)


def _below(x: float, text: str, layout: Layout) -> tuple[str, float]:
    """Anchor and place of a tick below a lying axis: centred unless that runs over an end of it."""
    half = text_width(text, 11) / 2
    if x - half < layout.left - 10:
        return "start", layout.left - 10
    if x + half > layout.left + layout.length + 10:
        return "end", layout.left + layout.length + 10
    return "middle", x


def _thinned(found: Axis, layout: Layout, room: int) -> list[tuple[float, str]]:
    """The ticks that do not touch each other, the ends before those between; long ones are cut."""
    marks = found.marks
    most = max(room - 2, 4) if layout.upright else max(int(layout.length / len(marks) / 6.4), 6)
    order = [0, len(marks) - 1, *range(1, len(marks) - 1)]
    kept: dict[int, tuple[float, float]] = {}
    for place in dict.fromkeys(order):
        share, text = marks[place][0], shorten(marks[place][1], most)
        if layout.upright:
            y = layout.at(0, share)[1]
            span = (y - 7.5, y + 7.5)
        else:
            anchor, x = _below(layout.at(0, share)[0], text, layout)
            width = text_width(text, 11) + 8
            start = x - {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor] * width
            span = (start, start + width)
        if all(span[1] <= other[0] or other[1] <= span[0] for other in kept.values()):
            kept[place] = span
    return [(marks[place][0], shorten(marks[place][1], most)) for place in sorted(kept)]
