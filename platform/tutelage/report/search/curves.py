"""The metric of every trial while it learned; a bar ends the line of a trial that was stopped."""

from __future__ import annotations

from markupsafe import Markup

from tutelage.report.numbers import percent
from tutelage.report.search.figures import SearchReport, TrialFigures
from tutelage.report.search.scales import grades, metric_scale
from tutelage.report.search.words import metric_text, shown, tooltip
from tutelage.report.svg import Canvas, text_width

_FEW = 60

Place = tuple[float, float]


def learning_plot(report: SearchReport, width: float, key: str) -> Markup | None:
    """The curves of all trials over the share of their budget; None where no trial was validated."""
    lines = {trial.id: _series(report, trial) for trial in report.trials}
    values = [value for line in lines.values() for _, value in line]
    if not values:
        return None
    best = report.trial(report.best) or next(iter(report.ranked()), None)
    scale = metric_scale(report, values)
    height = 310.0 if width > 500 else 270.0
    label = f"trial {best.number}" if best and lines.get(best.id) else ""
    left, top, right = 40.0, 26.0, max(text_width(label, 12) + 16, 20)
    across, down = width - left - right, height - top - 40
    drawn = sum(bool(line) for line in lines.values())
    stopped = sum(trial.status == "stopped" for trial in report.trials)
    canvas = Canvas(
        width,
        height,
        key=key,
        title=f"Validation {report.metric} of each trial while it learned",
        description=f"{drawn} trials, {stopped} of them stopped early."
        + (f" Best: trial {best.number}, {metric_text(report, best.metric)}." if best else ""),
    )

    def place(point: tuple[float, float]) -> Place:
        return left + across * point[0], top + down * (1 - scale.share(shown(report, point[1])))

    for value, text in scale.marks:
        y = top + down * (1 - scale.share(value))
        canvas.line(left, y, left + across, y, "grid")
        canvas.text(left - 7, y + 4, text, "tick", anchor="end")
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = left + across * share
        canvas.line(x, top + down, x, top + down + 4, "axis")
        canvas.text(x, top + down + 18, f"{percent(share, 0)}\u00a0%", "tick", anchor="middle")
    canvas.text(left + across, height - 3, "share of the budget", "tick", anchor="end")
    unit = ", %" if report.metric == "accuracy" else ""
    canvas.text(0, top - 13, f"validation {report.metric}{unit}", "tick")
    base = report.baseline_metric
    if base is not None:
        y = place((0.0, base))[1]
        canvas.line(left, y, left + across, y, "baseline")
        canvas.text(left + 4, y - 5, f"job as it is {metric_text(report, base)}", "tick halo")
    fifths = grades(report)
    many = " many" if len(lines) > _FEW else ""
    order = [*report.unranked(), *reversed(report.ranked())]
    for trial in order:
        points = [place(point) for point in lines[trial.id]]
        if points and not (best and trial.id == best.id):
            css = f"q{fifths[trial.id]}" if trial.id in fifths else "lost"
            canvas.polyline(points, f"curve {css}{many}")
            _end(canvas, trial, points[-1], css + many, tooltip(report, trial, 2))
    if best and lines.get(best.id):
        points = [place(point) for point in lines[best.id]]
        canvas.polyline(points, "curve under")
        canvas.polyline(points, "curve best")
        canvas.circle(*points[-1], 4, "mark student", tooltip(report, best))
        canvas.text(points[-1][0] + 9, points[-1][1] + 4, label, "end student halo")
    return canvas.markup()


def _series(report: SearchReport, trial: TrialFigures) -> list[tuple[float, float]]:
    values = [(p.progress, p.accuracy if report.metric == "accuracy" else p.loss) for p in trial.curve]
    return [(share, value) for share, value in values if value is not None]


def _end(canvas: Canvas, trial: TrialFigures, end: Place, css: str, title: str) -> None:
    x, y = end
    if trial.status == "stopped":
        canvas.path(f"M{x:.1f},{y - 4:.1f}v8", f"stop {css}", title)
    elif trial.status == "done":
        canvas.circle(x, y, 2.5, f"mark {css}", title)
    else:
        canvas.path(f"M{x - 3.5:.1f},{y - 3.5:.1f}l7,7m0,-7l-7,7", "cross", title)
