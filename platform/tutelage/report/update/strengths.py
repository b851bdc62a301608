"""Accuracy on the new validation rows for each lambda that was tried, beside plain fine-tuning."""

from __future__ import annotations

from markupsafe import Markup

from tutelage.report.numbers import percent
from tutelage.report.plot_curves import Panel
from tutelage.report.search.words import number
from tutelage.report.svg import Canvas, coordinate, tick_text, ticks
from tutelage.report.update.figures import UpdateReport
from tutelage.report.update.noise import interval

_TOP, _BOTTOM, _LEFT, _HEIGHT = 12.0, 36.0, 36.0, 170.0
_MOST_WIDTH = 560.0


def strength_plot(report: UpdateReport, width: float, key: str) -> Markup | None:
    """The attempts in their order, stiffest first; None where lambda was given."""
    choice = report.choice
    tried = choice.attempts if choice else []
    shown = [(one.strength, one.accuracy) for one in tried if one.accuracy is not None]
    if choice is None or not shown or choice.plain is None:
        return None
    width = min(width, _MOST_WIDTH)
    least = choice.plain - choice.tolerance
    ends = [end for _, accuracy in shown for end in interval(accuracy, choice.rows)]
    values = [100 * value for value in (*ends, choice.plain, least)]
    scale = tuple(tick for tick in ticks(min(values), max(values), 5) if -1 <= tick <= 101)
    panel = Panel(_LEFT, _TOP, width - _LEFT - 92, _HEIGHT, (-0.5, len(shown) - 0.5), scale)
    right, bottom = panel.left + panel.width, _TOP + _HEIGHT
    canvas = Canvas(
        width,
        bottom + _BOTTOM,
        key=key,
        title="Accuracy on new validation rows by lambda",
        description=f"plain fine-tuning {percent(choice.plain)} %, good enough from {percent(least)} % on; "
        + "; ".join(f"lambda {number(strength)} {percent(accuracy)} %" for strength, accuracy in shown),
    )
    low = coordinate(panel.y(100 * least))
    canvas.path(f"M{_LEFT:g},{low}H{coordinate(right)}V{coordinate(bottom)}H{_LEFT:g}Z", "beyond")
    step = scale[1] - scale[0]
    for value in scale:
        canvas.line(panel.left, panel.y(value), right, panel.y(value), "grid")
        canvas.text(panel.left - 8, panel.y(value) + 4, tick_text(value, step), "tick", anchor="end")
    canvas.line(panel.left, panel.y(100 * choice.plain), right, panel.y(100 * choice.plain), "baseline")
    canvas.line(panel.left, panel.y(100 * least), right, panel.y(100 * least), "limit")
    high = panel.y(100 * choice.plain)
    canvas.text(right + 8, high + 4, f"plain {percent(choice.plain)}", "end")
    canvas.text(right + 8, max(panel.y(100 * least) + 4, high + 18), f"enough {percent(least)}", "end fallen")
    for index, (strength, accuracy) in enumerate(shown):
        chosen = index == len(shown) - 1
        x, y = panel.x(index), panel.y(100 * accuracy)
        ends_y = [coordinate(panel.y(100 * end)) for end in interval(accuracy, choice.rows)]
        if choice.rows:
            across = coordinate(x - 3)
            bar = f"M{coordinate(x)},{ends_y[0]}V{ends_y[1]}M{across},{ends_y[0]}h6M{across},{ends_y[1]}h6"
            canvas.path(bar, "whisker thin")
        title = f"lambda {number(strength)}: {percent(accuracy)} %"
        canvas.marker(x, y, "star" if chosen else "circle", f"mark {'student' if chosen else 'other'}",
                      title=title, size=7.5 if chosen else 5.0)  # fmt: skip
        canvas.text(x, bottom + 18, f"λ {number(strength)}", "tick", anchor="middle")
    canvas.line(panel.left, bottom, right, bottom, "rule")
    return canvas.markup()
