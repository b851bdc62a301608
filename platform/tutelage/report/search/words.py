"""Keys, values and metrics of a search as people read them."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tutelage.report.numbers import DASH, duration, millions, percent, significant
from tutelage.report.search.figures import SearchReport, TrialFigures
from tutelage.report.svg import shorten

UNITS = {"latency_ms": "ms", "size_mb": "MB", "weights": "", "accuracy": "%", "loss": ""}
NAMES = {
    "latency_ms": "latency",
    "size_mb": "size",
    "weights": "weights",
    "accuracy": "accuracy",
    "loss": "loss",
}
_VAGUE = {"type", "name", "value", "values", "weight", "model", "start", "end"}
SIGNS = {"done": "✓", "stopped": "◐", "failed": "✗", "out-of-memory": "✗", "refused": "⊘"}


def number(value: float) -> str:
    """Three significant digits without zeros at the end: 3.1, 0.0008 as `8 × 10⁻⁴`, whole numbers whole."""
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    text = significant(value).replace("\u2009", "\u202f")  # a number is not broken between two lines
    return text.rstrip("0").rstrip(".") if "." in text and "×" not in text else text


def plain(value: object) -> str:
    """A value of a key in full: a text as it is, a number short, a list as JSON, a mapping by its keys."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, int | float):
        return number(value)
    if isinstance(value, dict) and value:
        return ", ".join(f"{key}\u00a0{_inner(item)}" for key, item in sorted(value.items()))
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _inner(value: object) -> str:
    return f"({plain(value)})" if isinstance(value, dict) and value else plain(value)


def choice_names(values: Sequence[object]) -> dict[str, str]:
    """The values of a choice in full and as a label: of mappings only what they differ in."""
    maps = [value for value in values if isinstance(value, dict)]
    texts = [{key: plain(item) for key, item in value.items()} for value in maps]
    if len(maps) != len(values) or len(maps) < 2:
        return {plain(value): plain(value) for value in values}
    alike = {key for key, text in texts[0].items() if all(other.get(key) == text for other in texts)}
    names = ({key: item for key, item in value.items() if key not in alike} for value in maps)
    return {
        plain(value): plain(name) if name else plain(value) for value, name in zip(maps, names, strict=True)
    }


def middle(text: str, room: int) -> str:
    """A name cut in its middle, since long names differ at either end."""
    if len(text) <= room:
        return text
    tail = max((room - 1) // 2, 1)
    return text[: max(room - 1 - tail, 1)] + "\u2026" + text[-tail:]


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Each key by the end of its dotted path, as many parts of it as set it apart and say what it is."""
    names = {}
    for key in keys:
        parts = key.split(".")
        least = 2 if parts[-1] in _VAGUE or parts[-1].isdigit() else 1
        ends = (".".join(parts[-size:]) for size in range(least, len(parts) + 1))
        names[key] = next(
            (end for end in ends if sum(k == end or k.endswith("." + end) for k in keys) == 1), key
        )
    return names


def metric_text(report: SearchReport, value: float | None, unit: str = "\u00a0%") -> str:
    """A metric as it is printed everywhere on the page: percent with one decimal, or the loss."""
    if value is None:
        return DASH
    return percent(value) + unit if report.metric == "accuracy" else significant(value)


def shown(report: SearchReport, value: float) -> float:
    """A metric in the unit of the axes: percent, or the loss."""
    return value * 100 if report.metric == "accuracy" else value


def measure(field: str, value: float | None) -> str:
    """A measured field of a trial with its unit: `1.8 ms`."""
    if value is None:
        return DASH
    if field == "accuracy":
        return percent(value) + "\u00a0%"
    if field == "weights":
        return millions(value) + "\u00a0million"
    return f"{number(float(value))}\u00a0{UNITS.get(field, '')}".rstrip("\u00a0")


def limit_text(field: str, value: float) -> str:
    """A limit in words: `latency ≤ 2 ms`."""
    sign = "≥" if field == "accuracy" else "≤"
    return f"{NAMES.get(field, field)} {sign}\u00a0{measure(field, value)}"


def tooltip(report: SearchReport, trial: TrialFigures, most: int = 6) -> str:
    """What a mark says when it is pointed at; of many keys only those that matter most."""
    parts = [f"{report.metric} {metric_text(report, trial.metric)}"]
    parts += [
        f"{NAMES[field]} {measure(field, value)}"
        for field in ("latency_ms", "size_mb")
        if (value := getattr(trial, field)) is not None
    ]
    values = settings(report, trial, most)
    stopped = f", stopped after {percent(trial.progress, 0)} %" if trial.status == "stopped" else ""
    return f"trial {trial.number}{stopped}: {', '.join(parts + [values] * bool(values))}"


def settings(report: SearchReport, trial: TrialFigures, most: int = 3) -> str:
    """The values of the keys that matter most, for a sentence: `temperature 3.1, lr 8 × 10⁻⁴`."""
    names = short_names([key.key for key in report.keys])
    order = [item.key for item in sorted(report.importances, key=lambda item: -item.mean)]
    keys = [key for key in dict.fromkeys([*order, *names]) if key in names and key in trial.values]
    texts = [f"{shorten(names[key], 32)} {shorten(plain(trial.values[key]), 32)}" for key in keys[:most]]
    more = len(keys) - most
    return ", ".join(texts) + (f" and {more} more" if more > 0 else "")


def clock(seconds: float) -> tuple[str, str]:
    """A time as the number and the unit of a tile: 6:12 min."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600}:{whole % 3600 // 60:02d}", "h"
    if whole >= 60:
        return f"{whole // 60}:{whole % 60:02d}", "min"
    value, unit = duration(seconds).rsplit("\u202f", 1)
    return value, unit
