"""Scales of the plots of a search: round ticks, and a range that a few failures do not stretch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import quantiles

from tutelage.report.search.figures import SearchedKey, SearchReport
from tutelage.report.search.words import choice_names, number, plain, shown
from tutelage.report.svg import tick_text, ticks

GRADES = 5
_PAD = 0.06  # room for whole marks at the ends of an axis
_FAR = 12.0
_ENOUGH = 8  # below this many values there is no telling which of them is far from the others


@dataclass(frozen=True)
class Scale:
    """From values to shares of an axis between 0 and 1, with its labelled ticks."""

    low: float
    high: float
    marks: tuple[tuple[float, str], ...]
    log: bool = False

    def share(self, value: float) -> float:
        """Where a value stands; values beyond the ends stand at them."""
        if self.log:
            raw = math.log(max(value, self.low) / self.low) / (math.log(self.high / self.low) or 1.0)
        else:
            raw = (value - self.low) / ((self.high - self.low) or 1.0)
        return min(max(raw, 0.0), 1.0)

    def beyond(self, value: float) -> bool:
        """Whether the value is not on the axis."""
        slack = 1e-9 * (self.high - self.low)
        return not self.low - slack <= value <= self.high + slack


def linear(low: float, high: float, wanted: int = 5, *, ends: bool = False) -> Scale:
    """From low to high with round ticks between; with `ends` the two ends are labelled as well."""
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        pad = abs(low) * 0.1 or 1.0
        low, high, ends = low - pad, high + pad, False
    found = ticks(low, high, wanted)
    step = found[1] - found[0]
    marks = [(value, tick_text(value, step)) for value in found if low <= value <= high]
    if ends:
        marks = [mark for mark in marks if min(mark[0] - low, high - mark[0]) > 0.3 * step]
        marks = [(low, _end(low)), *marks, (high, _end(high))]
    return Scale(low, high, tuple(marks))


def _end(value: float) -> str:
    return number(int(value) if value.is_integer() else value)


def metric_scale(report: SearchReport, values: Sequence[float], wanted: int = 5) -> Scale:
    """The axis of the metric in the unit of the axes; far outliers on the bad side stand at its edge."""
    extra = (report.baseline_metric, report.limits.get(report.metric))
    known = [shown(report, value) for value in (*values, *extra) if value is not None]
    low, high = min(known), max(known)
    if len(known) >= _ENOUGH:
        lower, _, upper = quantiles(known, n=4, method="inclusive")
        reach = 1.5 * (upper - lower)
        if reach > 0 and report.mode == "max":
            low = max(low, lower - reach)
        elif reach > 0:
            high = min(high, upper + reach)
    pad = (high - low) * _PAD
    top = min(high + pad, max(100.0, high)) if report.metric == "accuracy" else high + pad
    return linear(max(low - pad, min(low, 0.0)), top, wanted)


def amount_scale(values: Sequence[float]) -> Scale:
    """The axis of a latency or a size: logarithmic where the largest is far from the smallest."""
    low, high = min(values), max(values)
    if low <= 0 or high / low < _FAR:
        pad = (high - low) * _PAD
        return linear(max(low - pad, min(low, 0.0)), high + pad)
    return log_scale(low / 1.1, high * 1.1)


def log_scale(low: float, high: float) -> Scale:
    """Powers of ten between the ends; 1, 2 and 5 times them, or the ends, where those are few."""
    if high <= low:
        low, high = low / 2, high * 2
    first, last = math.floor(math.log10(low) - 1e-9), math.ceil(math.log10(high) + 1e-9)
    for factors in ((1,), (1, 2, 5)):
        found = [f * 10.0**p for p in range(first, last + 1) for f in factors]
        inside = [value for value in found if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]
        if len(inside) >= 3:
            break
    else:
        inside = [low, *(value for value in inside if low * 1.3 < value < high / 1.3), high]
    return Scale(low, high, tuple((value, number(float(value))) for value in inside), log=True)


@dataclass(frozen=True)
class Axis:
    """The axis of one searched key: numbers on a scale, or the values of a choice side by side."""

    key: str
    scale: Scale | None
    choices: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()

    def share(self, value: object, within: float) -> float | None:
        """Where a value stands; lines of one choice are set apart by `within`, from 0 to 1."""
        if self.scale is None:
            if plain(value) not in self.choices:
                return None
            return (self.choices.index(plain(value)) + 0.5 + (within - 0.5) * 0.45) / len(self.choices)
        number_like = isinstance(value, int | float) and not isinstance(value, bool)
        return self.scale.share(float(value)) if number_like else None  # type: ignore[arg-type]

    @property
    def marks(self) -> list[tuple[float, str]]:
        """Share and text of each tick."""
        if self.scale is None:
            return [((index + 0.5) / len(self.choices), text) for index, text in enumerate(self.labels)]
        return [(self.scale.share(value), text) for value, text in self.scale.marks]


def axis(key: SearchedKey, values: Sequence[object]) -> Axis | None:
    """The axis that holds the range of the key and all values that were tried; None where there are none."""
    numbers = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    numbers += [end for end in (key.low, key.high) if end is not None]
    if key.kind == "choice" or not numbers:
        names = choice_names([*key.values, *values])
        return Axis(key.key, None, tuple(names), tuple(names.values())) if names else None
    if key.kind == "log" and min(numbers) > 0:
        return Axis(key.key, log_scale(min(numbers), max(numbers)))
    scale = linear(min(numbers), max(numbers), 4, ends=True)
    if key.kind == "int":
        whole = tuple(mark for mark in scale.marks if float(mark[0]).is_integer())
        scale = Scale(scale.low, scale.high, whole or scale.marks)
    return Axis(key.key, scale)


def grades(report: SearchReport) -> dict[str, int]:
    """The fifth of the ranking in which each trial stands: 4 for the best ones, 0 for the last ones."""
    ranked = report.ranked()
    return {
        trial.id: GRADES - 1 - place * GRADES // max(len(ranked), 1) for place, trial in enumerate(ranked)
    }
