"""How far a score on so many texts can be trusted: its 95 % interval.

A label of a text is right or wrong, so the number of right ones is binomial, and the interval is Wilson's.
Every other metric (F1, exact match, accuracy of tokens) is a function of sums over texts, whose parts
depend on each other: whole texts are drawn with replacement, a thousand times, and the interval holds 95 % of
what comes out. Texts are drawn within their slice; the mean counts each slice the same.

Shapes: N texts of a slice, R draws, S sums.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from tutelage.config.task import SequenceClassification, Task
from tutelage.tasks.metrics import Sums, metrics

Z95 = 1.959964
"""Standard errors of a normal distribution on either side of its mean that hold 95 % of it."""
DRAWS = 1000
CHUNK = 50
"""Draws that are counted at once: memory is CHUNK times N."""

Interval = tuple[float, float]


def wilson(share: float, rows: float) -> Interval:
    """The 95 % interval of Wilson, which stays within 0 and 1 and does not vanish at them."""
    if rows <= 0:
        return share, share
    square = Z95**2 / rows
    middle = (share + square / 2) / (1 + square)
    half = Z95 * math.sqrt(share * (1 - share) / rows + square / (4 * rows)) / (1 + square)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def mean_interval(task: Task, by_slice: Mapping[str, Sums]) -> Interval | None:
    """Of the mean over slices of the task's main metric; None where nothing has a label.

    For labels of texts in S slices of N_s texts, their number is S^2 / sum(1 / N_s): that many texts have the
    variance of the mean where all slices are alike.
    """
    known = {name: sums for name, sums in by_slice.items() if not math.isnan(_score(task, _total(sums)))}
    if not known:
        return None
    if isinstance(task, SequenceClassification):
        counts = [float(sums["positions"].sum()) for sums in known.values()]
        mean = float(np.mean([_score(task, _total(sums)) for sums in known.values()]))
        return wilson(mean, len(counts) ** 2 / sum(1 / count for count in counts))
    drawn = np.mean([_drawn(task, sums) for sums in known.values()], axis=0)
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return float(low), float(high)


def _drawn(task: Task, sums: Sums) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The score of each draw of the slice's texts, float64 [R]."""
    names = list(sums)
    values_NS = np.stack([sums[name] for name in names], axis=1)
    size = len(values_NS)
    chance = np.random.default_rng(0)  # the same rows have the same interval
    found = []
    for _ in range(DRAWS // CHUNK):
        times_RN = chance.multinomial(size, np.full(size, 1 / size), CHUNK)
        found += [
            _score(task, dict(zip(names, sums_S.tolist(), strict=True))) for sums_S in times_RN @ values_NS
        ]
    return np.array(found)


def _total(sums: Sums) -> dict[str, float]:
    return {name: float(values_N.sum()) for name, values_N in sums.items()}


def _score(task: Task, sums: Mapping[str, float]) -> float:
    return metrics(task, sums).score
