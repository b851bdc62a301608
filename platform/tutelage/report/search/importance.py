"""How much each searched key mattered: a bar to the mean share, a whisker over its interval."""

from __future__ import annotations

from markupsafe import Markup

from tutelage.report.numbers import percent
from tutelage.report.search.figures import SearchReport
from tutelage.report.search.words import middle, short_names
from tutelage.report.svg import Canvas, text_width, ticks

_ROW, _TOP, _BOTTOM = 34.0, 6.0, 26.0


def importance_plot(report: SearchReport, width: float, key: str) -> Markup | None:
    """One row a key, the most important first; None where nothing could be told."""
    items = sorted(report.importances, key=lambda item: -item.mean)
    if not items:
        return None
    names = short_names([item.key for item in items])
    room = max(int(width * 0.3 / 7), 8)
    texts = {name: middle(text, room) for name, text in names.items()}
    left = max(text_width(text, 13) for text in texts.values()) + 14
    right = 46.0
    scale = [
        tick for tick in ticks(0.0, max(max(item.high, item.mean) for item in items) * 100, 5) if tick <= 100
    ]
    span = (width - left - right) / (scale[-1] or 1.0)
    bottom = _TOP + _ROW * len(items)
    canvas = Canvas(
        width,
        bottom + _BOTTOM,
        key=key,
        title=f"Share of each key in the explained spread of the {report.metric}",
        description="; ".join(
            f"{item.key} {percent(item.mean, 0)} % ({percent(item.low, 0)} to {percent(item.high, 0)} %)"
            for item in items
        ),
    )
    for value in scale:
        x = left + value * span
        canvas.line(x, _TOP, x, bottom, "grid")
        canvas.text(x, bottom + 17, f"{value:g}\u00a0%", "tick", anchor="middle")
    for index, item in enumerate(items):
        y = _TOP + _ROW * (index + 0.5)
        mean, low, high = (min(v * 100, scale[-1]) * span for v in (item.mean, item.low, item.high))
        title = (
            f"{item.key}: {percent(item.mean, 0)} %, from {percent(item.low, 0)} to {percent(item.high, 0)} %"
        )
        canvas.path(f"M{left:.1f},{y - 7:.1f}h{mean:.1f}v14h{-mean:.1f}Z", "bar", title)
        canvas.path(
            f"M{left + low:.1f},{y:.1f}H{left + high:.1f}M{left + low:.1f},{y - 4:.1f}v8"
            f"M{left + high:.1f},{y - 4:.1f}v8",
            "whisker",
        )
        canvas.text(0, y + 4, texts[item.key], "name")
        canvas.text(width, y + 4, f"{percent(item.mean, 0)}\u00a0%", "end", anchor="end")
    canvas.line(left, _TOP, left, bottom, "rule")
    return canvas.markup()
