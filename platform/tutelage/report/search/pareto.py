"""What the trials reached: the metric against latency or size, or trial by trial where those are unknown."""

from __future__ import annotations

from itertools import pairwise

from markupsafe import Markup

from tutelage.report.numbers import capital
from tutelage.report.plot_curves import Panel
from tutelage.report.search.figures import SearchReport, TrialFigures
from tutelage.report.search.scales import Scale, amount_scale, linear, metric_scale
from tutelage.report.search.words import NAMES, limit_text, metric_text, shown, tooltip
from tutelage.report.svg import Canvas, text_width

_AMOUNTS = {"latency_ms": 1.0, "size_mb": 1.0, "weights": 1e-6}
_LABELS = {"latency_ms": "median latency, ms", "size_mb": "size, MB", "weights": "weights, million"}
_FEW = 60

Place = tuple[float, float]
Box = tuple[float, float, float, float]


def amount_field(report: SearchReport) -> str | None:
    """What the metric is drawn against, where two trials differ in it: an objective, else a limit.

    A front of several trials without either can only be one of latency or size. None: trial by trial.
    """
    front = ("latency_ms", "size_mb") if len(report.front) > 1 else ()
    for field in (*report.objectives, *report.limits, *front):
        if field in _AMOUNTS and len({getattr(trial, field) for trial in report.ranked()} - {None}) > 1:
            return str(field)
    return None


def beyond_edge(report: SearchReport) -> bool:
    """Whether a trial is so far from the others that it stands at the edge of the plot."""
    known = [trial.metric for trial in report.ranked() if trial.metric is not None]
    return bool(known) and any(map(metric_scale(report, known).beyond, (shown(report, v) for v in known)))


def outcome_plot(report: SearchReport, width: float, key: str) -> Markup | None:
    """The scatter of all ranked trials; None where there is none."""
    if not report.ranked():
        return None
    field = amount_field(report)
    return _history(report, width, key) if field is None else _pareto(report, field, width, key)


def _pareto(report: SearchReport, field: str, width: float, key: str) -> Markup:
    known = [trial for trial in report.ranked() if getattr(trial, field) is not None]
    amounts = [_amount(trial, field) for trial in known]
    limit = report.limits.get(field)
    ends = [*amounts, *([limit * _AMOUNTS[field]] if limit is not None else [])]
    across = amount_scale(ends)
    front = sorted((t for t in known if t.id in report.front), key=lambda t: _amount(t, field))
    words = "; ".join(
        f"trial {t.number}: {metric_text(report, t.metric)} at {NAMES[field]} {_amount(t, field):.3g}"
        for t in front
    )
    canvas, panel, up = _frame(
        report,
        width,
        key,
        title=f"{capital(report.metric)} of each trial against {NAMES[field]}",
        description=f"Trials that no other trial beats in both: {words or 'none'}.",
    )

    def x_of(value: float) -> float:
        return panel.left + panel.width * across.share(value)

    for value, text in across.marks:
        canvas.line(x_of(value), panel.top, x_of(value), panel.top + panel.height, "grid")
        canvas.text(x_of(value), panel.top + panel.height + 17, text, "tick", anchor="middle")
    canvas.text(canvas.width - 12, canvas.height - 6, _LABELS[field], "tick", anchor="end")
    if limit is not None:
        x = x_of(limit * _AMOUNTS[field])
        _beyond(canvas, x, panel.top, panel.left + panel.width, panel.top + panel.height)
        canvas.line(x, panel.top - 8, x, panel.top + panel.height, "limit")
        label = limit_text(field, limit)
        half = text_width(label, 11) / 2
        middle = min(max(x, text_width("validation accuracy, %", 11) + 12 + half), canvas.width - half)
        canvas.text(middle, panel.top - 13, label, "tick halo", anchor="middle")
    places = {trial.id: (x_of(_amount(trial, field)), _y(panel, report, trial)) for trial in known}
    labels = _reference(canvas, report, panel, places)
    corners: list[Place] = []
    for trial in front:
        x, y = places[trial.id]
        corners += [(x, corners[-1][1]), (x, y)] if corners else [(x, y)]
    canvas.polyline(corners, "curve student")
    _marks(canvas, report, up, places)
    for x, y, label, anchor in labels:
        canvas.text(x, y, label, "tick halo", anchor=anchor)
    _numbers(canvas, report, [(trial, *places[trial.id]) for trial in front], places, corners)
    return canvas.markup()


def _history(report: SearchReport, width: float, key: str) -> Markup:
    ranked = sorted(report.ranked(), key=lambda trial: trial.number)
    best = report.trial(report.best) or report.ranked()[0]
    canvas, panel, up = _frame(
        report,
        width,
        key,
        title=f"{capital(report.metric)} of each trial in the order of the trials",
        description=f"Best: trial {best.number} with {metric_text(report, best.metric)}.",
    )
    numbers = [float(trial.number) for trial in report.trials]
    low, high = min(numbers), max(numbers)
    pad = max((high - low) * 0.02, 0.5)
    across = Scale(low - pad, high + pad, linear(low, high, 6).marks)
    places = {
        trial.id: (
            panel.left + panel.width * across.share(trial.number),
            _y(panel, report, trial),
        )
        for trial in ranked
    }
    bottom = panel.top + panel.height
    for value, _ in across.marks:
        if not across.beyond(value) and value.is_integer():
            x = panel.left + panel.width * across.share(value)
            canvas.text(x, bottom + 17, f"{value:,.0f}", "tick", anchor="middle")
    canvas.text(canvas.width - 12, canvas.height - 6, "trial", "tick", anchor="end")
    labels = _reference(canvas, report, panel, places)
    for trial in report.unranked():
        x = panel.left + panel.width * across.share(trial.number)
        canvas.path(_cross(x, bottom - 6), "cross", f"trial {trial.number}: {trial.status}")
    better = min if report.mode == "max" else max  # pixels grow downwards
    steps: list[Place] = []
    for trial in ranked:
        x, y = places[trial.id]
        top = better(steps[-1][1], y) if steps else y
        steps += [(x, steps[-1][1]), (x, top)] if steps else [(x, y)]
    canvas.polyline([*steps, (panel.left + panel.width, steps[-1][1])], "curve student")
    _marks(canvas, report, up, places)
    for x, y, label, anchor in labels:
        canvas.text(x, y, label, "tick halo", anchor=anchor)
    _numbers(canvas, report, [(best, *places[best.id])] if best.id in places else [], places, steps)
    return canvas.markup()


def _frame(
    report: SearchReport, width: float, key: str, *, title: str, description: str
) -> tuple[Canvas, Panel, Scale]:
    height = 330.0 if width > 500 else 290.0
    up = metric_scale(report, [t.metric for t in report.ranked() if t.metric is not None])
    canvas = Canvas(width, height, key=key, title=title, description=description)
    panel = Panel(40, 26, width - 40 - 14, height - 66, (0.0, 1.0), (up.low, up.high))
    for value, text in up.marks:
        y = panel.y(value)
        canvas.line(panel.left, y, panel.left + panel.width, y, "grid")
        canvas.text(panel.left - 7, y + 4, text, "tick", anchor="end")
    unit = ", %" if report.metric == "accuracy" else ""
    canvas.text(0, panel.top - 13, f"validation {report.metric}{unit}", "tick")
    return canvas, panel, up


def _reference(
    canvas: Canvas, report: SearchReport, panel: Panel, places: dict[str, Place]
) -> list[tuple[float, float, str, str]]:
    """The limit on the metric and what the job file reaches as it is, as lines across the panel.

    Returns their labels, to be written over the marks: x, y, text, anchor.
    """
    left, right = panel.left, panel.left + panel.width
    limit, base = report.limits.get(report.metric), report.baseline_metric
    lines = [
        (css, panel.y(shown(report, value)), label)
        for css, value, label in (
            ("limit", limit, limit_text(report.metric, limit or 0.0)),
            ("baseline", base, f"job as it is {metric_text(report, base)}"),
        )
        if value is not None
    ]
    marks = [_around(place) for place in places.values()]
    taken = [(left, y - 1, right, y + 1) for _, y, _ in lines]
    labels = []
    for css, y, label in lines:
        canvas.line(left, y, right, y, css)
        width = text_width(label, 11)
        spots = [
            (anchor, x, (start, top, start + width, top + 14))
            for anchor, x, start in (
                ("end", right, right - width),
                ("start", left + 4, left + 4),
                ("middle", (left + right) / 2, (left + right - width) / 2),
            )
            for top in (y + 3, y - 17)
        ]
        legible = [spot for spot in spots if _free(spot[2], taken)] or spots
        anchor, x, box = next((spot for spot in legible if _free(spot[2], marks)), legible[0])
        taken.append(box)
        labels.append((x, box[3] - 3, label, anchor))
    return labels


def _marks(canvas: Canvas, report: SearchReport, up: Scale, places: dict[str, Place]) -> None:
    """All trials, those on the front above the others and the winner above all."""
    faint = " faint" if len(places) > _FEW else ""
    on_front = set(report.front)
    for trial in sorted(report.ranked(), key=lambda t: (t.id == report.best, t.id in on_front, -t.number)):
        if trial.id not in places or trial.metric is None:
            continue
        x, y = places[trial.id]
        title = tooltip(report, trial)
        if trial.id == report.best:
            canvas.marker(x, y, "star", "mark student", title=title, size=9)
        elif trial.id in on_front:
            canvas.marker(x, y, "circle", "mark student", title=title, size=5)
        elif up.beyond(shown(report, trial.metric)):
            shape = "down" if report.mode == "max" else "triangle"
            canvas.marker(x, y, shape, "mark dominated" + faint, title=title, size=4.5)
        else:
            css = "mark halfway" if trial.status == "stopped" else "mark dominated"
            canvas.marker(x, y, "circle", css + faint, title=title, size=4.5)


def _numbers(
    canvas: Canvas,
    report: SearchReport,
    placed: list[tuple[TrialFigures, float, float]],
    places: dict[str, Place],
    line: list[Place],
) -> None:
    """Trial numbers beside the marks that matter, the best first, where they cover nothing else."""
    taken = [_around(place) for place in places.values()]
    strokes = [
        (min(a[0], b[0]) - 1, min(a[1], b[1]) - 1, max(a[0], b[0]) + 1, max(a[1], b[1]) + 1)
        for a, b in pairwise(line)
    ]
    for trial, x, y in sorted(placed, key=lambda item: item[0].id != report.best):
        best = trial.id == report.best
        label = f"trial {trial.number} · {metric_text(report, trial.metric)}" if best else str(trial.number)
        width = text_width(label) + 4
        spots = [
            (x - width / 2, y - 25, x + width / 2, y - 10),
            (x - width - 9, y - 17, x - 9, y - 2),
            (x + 9, y + 3, x + width + 9, y + 18),
            (x - width / 2, y + 9, x + width / 2, y + 24),
            (x - width - 9, y - 25, x - 9, y - 10),
        ]
        inside = [
            box
            for box in spots
            if box[0] >= 40 and box[2] <= canvas.width and box[1] >= 12 and box[3] <= canvas.height - 40
        ]
        clear = [box for box in inside if _free(box, taken)]
        spot = next((box for box in clear if _free(box, strokes)), None) or next(
            iter(clear[: int(best)]), None
        )
        if spot:
            css = "end student halo" if best else "tick halo"
            canvas.text((spot[0] + spot[2]) / 2, spot[3] - 3, label, css, anchor="middle")
            taken.append(spot)


def _around(place: Place) -> Box:
    return place[0] - 5, place[1] - 5, place[0] + 5, place[1] + 5


def _free(box: Box, taken: list[Box]) -> bool:
    return not any(box[0] < o[2] and o[0] < box[2] and box[1] < o[3] and o[1] < box[3] for o in taken)


def _amount(trial: TrialFigures, field: str) -> float:
    return float(getattr(trial, field)) * _AMOUNTS[field]


def _y(panel: Panel, report: SearchReport, trial: TrialFigures) -> float:
    return panel.y(shown(report, trial.metric or 0.0))


def _cross(x: float, y: float) -> str:
    return f"M{x - 3.5:.1f},{y - 3.5:.1f}l7,7m0,-7l-7,7"


def _beyond(canvas: Canvas, left: float, top: float, right: float, bottom: float) -> None:
    if right > left:
        canvas.path(f"M{left:.1f},{top:.1f}H{right:.1f}V{bottom:.1f}H{left:.1f}Z", "beyond")
