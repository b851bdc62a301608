"""Size against latency on logarithmic axes: small and fast is the lower left corner."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from markupsafe import Markup

from tutelage.report.claims import size_kind
from tutelage.report.figures import LatencyRow, Report
from tutelage.report.numbers import significant
from tutelage.report.svg import Canvas, shorten, text_width

_LEFT, _RIGHT, _TOP, _BOTTOM = 44.0, 12.0, 26.0, 40.0
_NEAR = 9.0  # marks closer than this many pixels share one label

_Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Spot:
    """One artifact: latency in milliseconds, size in megabytes."""

    name: str
    ms: float
    megabytes: float
    css: str


def common_condition(rows: list[LatencyRow]) -> tuple[int, int] | None:
    """The (batch, tokens) that most rows share; the smaller one where two tie."""
    counts = Counter((row.batch, row.tokens) for row in rows if row.p50_ms is not None)
    return min(counts, key=lambda condition: (-counts[condition], condition), default=None)


def spots(report: Report) -> list[Spot]:
    """Artifacts with both figures under the common condition."""
    condition = common_condition(report.latency)
    times = {r.name: r.p50_ms for r in report.latency if (r.batch, r.tokens) == condition}
    result = []
    for row in report.sizes:
        ms = times.get(row.name)
        if ms is not None and ms > 0 and row.bytes > 0:
            css = "mark student" if size_kind(row, report) == "student" else "mark other"
            result.append(Spot(row.name, ms, row.bytes / 1e6, css))
    return result


def size_plot(report: Report, width: float, key: str) -> Markup | None:
    """The scatter; None with fewer than two artifacts."""
    shown = spots(report)
    if len(shown) < 2:
        return None
    height = 270.0
    xs, ys = _log_ticks([s.ms for s in shown]), _log_ticks([s.megabytes for s in shown])
    canvas = Canvas(
        width,
        height,
        key=key,
        title="Size against latency",
        description="; ".join(
            f"{s.name}: {significant(s.ms)} ms, {significant(s.megabytes)} MB" for s in shown
        ),
    )

    def x_of(value: float) -> float:
        return _LEFT + (width - _LEFT - _RIGHT) * _share(value, xs)

    def y_of(value: float) -> float:
        return _TOP + (height - _TOP - _BOTTOM) * (1 - _share(value, ys))

    for value in xs:
        canvas.line(x_of(value), _TOP, x_of(value), height - _BOTTOM, "grid")
        canvas.text(x_of(value), height - _BOTTOM + 17, f"{value:g}", "tick", anchor="middle")
    for value in ys:
        canvas.line(_LEFT, y_of(value), width - _RIGHT, y_of(value), "grid")
        canvas.text(_LEFT - 6, y_of(value) + 4, f"{value:g}", "tick", anchor="end")
    canvas.text(width - _RIGHT, height - 6, "median latency, ms", "tick", anchor="end")
    canvas.text(0, _TOP - 12, "size, MB", "tick")
    for spot in shown:
        title = f"{spot.name}: {significant(spot.ms)} ms, {significant(spot.megabytes)} MB"
        canvas.marker(x_of(spot.ms), y_of(spot.megabytes), "circle", spot.css, title=title, size=5.5)
    _labels(canvas, [(x_of(s.ms), y_of(s.megabytes), s) for s in shown])
    return canvas.markup()


def _labels(canvas: Canvas, placed: list[tuple[float, float, Spot]]) -> None:
    """One label for each group of marks on one spot, on the first free side of it."""
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y, _ in placed]
    for group in _groups(placed):
        x, y = group[0][:2]
        label = shorten(", ".join(spot.name for _, _, spot in group), 34)
        width = text_width(label) * 1.1
        right, left = max(item[0] for item in group) + 11, min(item[0] for item in group) - 11
        choices = [
            (right, y + 4, "start", (right, y - 7, right + width, y + 7)),
            (left, y + 4, "end", (left - width, y - 7, left, y + 7)),
            (x, y - 11, "middle", (x - width / 2, y - 22, x + width / 2, y - 8)),
            (x, y + 21, "middle", (x - width / 2, y + 9, x + width / 2, y + 23)),
        ]
        inside = [c for c in choices if c[3][0] >= _LEFT and c[3][2] <= canvas.width] or choices
        free = [c for c in inside if not any(_overlap(c[3], box) for box in taken)]
        text_x, text_y, anchor, box = (free or inside)[0]
        taken.append(box)
        css = "end student" if "student" in group[0][2].css else "end"
        canvas.text(text_x, text_y, label, css, anchor=anchor)


def _groups(placed: list[tuple[float, float, Spot]]) -> list[list[tuple[float, float, Spot]]]:
    groups: list[list[tuple[float, float, Spot]]] = []
    for item in placed:
        for group in groups:
            if math.dist(group[0][:2], item[:2]) < _NEAR and group[0][2].css == item[2].css:
                group.append(item)
                break
        else:
            groups.append([item])
    return groups


def _overlap(one: _Box, other: _Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _log_ticks(values: list[float]) -> list[float]:
    """1, 2 and 5 times powers of ten that enclose the values, at least two of them."""
    low, high = min(values) * 0.85, max(values) * 1.18
    start = math.floor(math.log10(low))
    every = [m * 10.0**power for power in range(start, start + 14) for m in (1, 2, 5)]
    first = max(index for index, tick in enumerate(every) if tick <= low or index == 0)
    last = next((index for index, tick in enumerate(every) if tick >= high), len(every) - 1)
    return [float(f"{tick:.3g}") for tick in every[first : max(last, first + 1) + 1]]


def _share(value: float, scale: list[float]) -> float:
    return math.log(value / scale[0]) / math.log(scale[-1] / scale[0])
