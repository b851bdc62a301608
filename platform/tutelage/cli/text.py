"""Words and figures as people read them: durations, numbers, small graphs, tables."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence

SPARKS = "▁▂▃▄▅▆▇█"
DASH = "-"
"""Where there is no figure."""


def duration(seconds: float) -> str:
    """`3.2 s`, `41 s`, `2 min 05 s`, `1 h 02 min`."""
    if seconds < 9.95:
        return f"{max(seconds, 0):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def number(value: float | str) -> str:
    """A figure with as many digits as mean something."""
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.3f}" if size >= 0.001 or size == 0 else f"{value:.1e}"


def size(count: float) -> str:
    """Bytes as `812 B`, `1.4 MB`, `2.0 GB` (powers of 1000)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def figures(values: Mapping[str, float | str], room: int = 1000, width: int = 15) -> str:
    """`loss 0.412       accuracy 0.810`: one column a figure, so that lines below each other align.

    Figures that do not fit in `room` columns are left out, the last ones first.
    """
    line = ""
    for name, value in values.items():
        longer = f"{line}{name} {number(value)}"
        if cells(longer) > room:
            break
        column = (cells(longer) + 1) // (width + 2) + 1
        line = pad(longer, column * (width + 2) - 2) + "  "
    return line.rstrip()


def sparkline(values: Sequence[float], width: int = 20) -> str:
    """A small graph, high where the value is high; the mean of each of `width` equal parts."""
    if not values:
        return ""
    count = min(width, len(values))
    parts = [values[i * len(values) // count : (i + 1) * len(values) // count] for i in range(count)]
    means = [sum(part) / len(part) for part in parts]
    low, high = min(means), max(means)
    if high - low <= 0:
        return SPARKS[0] * count
    return "".join(SPARKS[round((mean - low) / (high - low) * (len(SPARKS) - 1))] for mean in means)


def cells(text: str) -> int:
    """Columns that a text takes on a terminal."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )


def clip(text: str, width: int) -> str:
    """A text of at most `width` columns, cut with an ellipsis."""
    if cells(text) <= width:
        return text
    while text and cells(text) > width - 1:
        text = text[:-1]
    return text + "…" if width > 0 else ""


def pad(text: str, width: int, *, right: bool = False) -> str:
    """A text filled with spaces to `width` columns."""
    fill = " " * max(0, width - cells(text))
    return fill + text if right else text + fill


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], width: int | None = None) -> list[str]:
    """Aligned lines, header first; numbers stand right. The widest column gives way to `width`."""
    texts = [[_cell(value) for value in row] for row in rows]
    right = [bool(rows) and all(_is_number(row[i]) for row in rows) for i in range(len(columns))]
    widths = [max([cells(name), *(cells(row[i]) for row in texts)]) for i, name in enumerate(columns)]
    over = sum(widths) + 2 * (len(columns) - 1) - (width or 0)
    if width and over > 0:
        widest = widths.index(max(widths))
        widths[widest] = max(8, widths[widest] - over)
    return [
        "  ".join(
            pad(clip(text, widths[i]), widths[i], right=right[i]) for i, text in enumerate(row)
        ).rstrip()
        for row in [list(columns), *texts]
    ]


def narrow_table(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Aligned lines of texts, header first; columns that do not fit in `width` are left out, last ones first.

    A column whose texts all begin with a digit or are a dash stands right. The first column always stays.
    """
    lines = [""] * (len(rows) + 1)
    for i, name in enumerate(columns):
        texts = [name, *(row[i] for row in rows)]
        right = all(text == DASH or text[:1].isdigit() for text in texts[1:])
        room = max(map(cells, texts))
        gap = "  " if i else ""
        if i == 0:
            room = min(room, width)
        elif cells(lines[0]) + len(gap) + room > width:
            break
        lines = [
            line + gap + pad(clip(text, room), room, right=right)
            for line, text in zip(lines, texts, strict=True)
        ]
    return [line.rstrip() for line in lines]


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _cell(value: object) -> str:
    if value is None:
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value) if isinstance(value, int | float) else str(value)


def measured(value: float | None, digits: int) -> str:
    """A measured number with so many decimals; a dash where nothing was measured."""
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"
