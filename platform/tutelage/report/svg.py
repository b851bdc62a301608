"""A small SVG writer: escaped, deterministic, coloured only by CSS classes so that light and dark both work.

Coordinates are CSS pixels with the origin at the top left. Text is `_FONT` pixels high; widths of text are
estimated, since no font is at hand where the page is made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

_FONT = 12.0
_GLYPH = 0.54  # mean advance of a sans-serif glyph in units of the font size

_CORNERS = {
    "square": ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    "triangle": ((0, -1.15), (1.15, 0.92), (-1.15, 0.92)),
    "down": ((0, 1.15), (1.15, -0.92), (-1.15, -0.92)),
    "diamond": ((0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)),
    "star": tuple(
        (reach * math.sin(turn * math.pi / 4), -reach * math.cos(turn * math.pi / 4))
        for turn in range(8)
        for reach in (1.3 if turn % 2 == 0 else 0.5,)
    ),
}


def text_width(text: str, size: float = _FONT) -> float:
    """Estimated width in pixels."""
    return len(text) * size * _GLYPH


def shorten(text: str, limit: int) -> str:
    """The text, cut with an ellipsis to at most `limit` characters."""
    return text if len(text) <= limit else text[: max(limit - 1, 1)].rstrip() + "\u2026"


def coordinate(value: float) -> str:
    """A pixel with one decimal, without trailing zeros."""
    text = f"{value:.1f}"
    return text[:-2] if text.endswith(".0") else text


class Canvas:
    """Collects shapes; `markup()` closes the drawing with its accessible title and description."""

    def __init__(self, width: float, height: float, *, key: str, title: str, description: str) -> None:
        self.width = width
        self.height = height
        self._key = key
        self._title = title
        self._description = description
        self._parts: list[Markup] = []

    def line(self, x1: float, y1: float, x2: float, y2: float, css: str) -> None:
        """A straight stroke."""
        ends = tuple(coordinate(value) for value in (x1, y1, x2, y2))
        self._parts.append(
            Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(css, *ends),
        )

    def path(self, d: str, css: str, title: str = "") -> None:
        """A path from its `d` string."""
        self._parts.append(Markup('<path class="{}" d="{}">{}</path>').format(css, d, _tooltip(title)))

    def polyline(self, points: Sequence[tuple[float, float] | None], css: str) -> None:
        """A broken line: None lifts the pen; a point that stands alone is drawn as a short dash."""
        runs: list[list[tuple[float, float]]] = [[]]
        for point in points:
            if point is None:
                runs.append([])
            else:
                runs[-1].append(point)
        strokes = ("M" + "L".join(f"{coordinate(x)},{coordinate(y)}" for x, y in run) for run in runs if run)
        d = "".join(stroke if "L" in stroke else stroke + "h1" for stroke in strokes)
        if d:
            self.path(d, css)

    def circle(self, x: float, y: float, radius: float, css: str, title: str = "") -> None:
        """A disc or, by its class, a ring."""
        place = (coordinate(x), coordinate(y), coordinate(radius))
        shape = Markup('<circle class="{}" cx="{}" cy="{}" r="{}">{}</circle>')
        self._parts.append(shape.format(css, *place, _tooltip(title)))

    def text(self, x: float, y: float, text: str, css: str = "", *, anchor: str = "start") -> None:
        """A line of text on its baseline."""
        place = (coordinate(x), coordinate(y), anchor)
        shape = Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>')
        self._parts.append(shape.format(css, *place, text))

    def marker(self, x: float, y: float, shape: str, css: str, *, title: str = "", size: float = 5.0) -> None:
        """One mark of a scatter; shape is circle or a key of `_CORNERS`."""
        if shape == "circle":
            self.circle(x, y, size, css, title)
            return
        corners = [(x + dx * size, y + dy * size) for dx, dy in _CORNERS[shape]]
        self.path(
            "M" + "L".join(f"{coordinate(px)},{coordinate(py)}" for px, py in corners) + "Z", css, title
        )

    def markup(self) -> Markup:
        """The whole drawing as one inline element."""
        size = f"{coordinate(self.width)} {coordinate(self.height)}"
        head = Markup(
            '<svg viewBox="0 0 {0}" role="img" aria-labelledby="{1}-t {1}-d">'
            '<title id="{1}-t">{2}</title><desc id="{1}-d">{3}</desc>'
        ).format(size, self._key, self._title, self._description)
        return head + Markup("\n").join(self._parts) + Markup("</svg>")

    def icon(self) -> Markup:
        """The drawing beside a text that says the same: hidden from screen readers."""
        size = f"{coordinate(self.width)} {coordinate(self.height)}"
        head = Markup('<svg class="icon" viewBox="0 0 {}" aria-hidden="true">').format(size)
        return head + Markup("").join(self._parts) + Markup("</svg>")


def _tooltip(text: str) -> Markup:
    return Markup("<title>{}</title>").format(text) if text else Markup("")


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """About `wanted` round numbers (1, 2 or 5 times a power of ten apart) that enclose low..high."""
    if high <= low:
        pad = abs(low) * 0.1 or 1.0
        low, high = low - pad, high + pad
    raw = (high - low) / max(wanted - 1, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def tick_text(value: float, step: float) -> str:
    """A tick with as many decimals as its step needs."""
    return f"{value:,.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move labels apart so that neighbours stand at least `gap` pixels apart, inside low..high, in order."""
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    placed = [0.0] * len(wanted)
    edge = low
    for index in order:
        placed[index] = max(wanted[index], edge)
        edge = placed[index] + gap
    edge = high
    for index in reversed(order):
        placed[index] = min(placed[index], edge)
        edge = placed[index] - gap
    return placed
