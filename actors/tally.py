"""Metrics of one model, counted batch by batch and told by slice.

Shapes: P positions, V classes or vocabulary, B batch.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from tutelage.config.task import Task
from tutelage.data.examples import Batch
from tutelage.tasks import StudentRows
from tutelage.tasks.interval import mean_interval
from tutelage.tasks.metrics import Sums, metrics, tally


@dataclass(frozen=True)
class Scores:
    """What one model is worth: the task's main metric by slice, and the mean over slices."""

    by_slice: dict[str, float]
    mean: float | None
    """None where nothing has a label."""
    examples: int
    metric: str = "accuracy"
    values: dict[str, float] = field(default_factory=dict)
    """Every metric of the task over all examples."""
    interval: tuple[float, float] | None = None
    """95 % of the mean; None where nothing has a label. See `tutelage.tasks.interval`."""

    def words(self) -> str:
        """In a line: `accuracy 0.728 (0.700 to 0.755) on 1000 test texts`, the interval in brackets."""
        if self.mean is None:
            return "no test row has a label: nothing was measured"
        ends = "" if self.interval is None else f" ({self.interval[0]:.3f} to {self.interval[1]:.3f})"
        return f"{self.metric} {self.mean:.3f}{ends} on {self.examples} test texts"

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> Scores:
        """Read what `asdict` gave and JSON kept."""
        ends = kept.get("interval")
        return cls(**{**kept, "interval": None if ends is None else (ends[0], ends[1])})


class Tally:
    """What each example adds to the metrics, kept for each slice: tens of bytes an example."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._parts: dict[str, list[Sums]] = {}
        self._examples = 0

    def add(self, logits_PV: Tensor, at: StudentRows, batch: Batch, slices_B: Sequence[str]) -> None:
        """Count one batch of labelled examples."""
        found = tally(self._task, logits_PV, at.labels_P, at.examples_P, batch)
        self._examples += len(batch.rows)
        slices = np.array(slices_B)
        for part in in_order(slices_B):
            here = {name: values_B[slices == part] for name, values_B in found.items()}
            self._parts.setdefault(part, []).append(here)

    def scores(self, order: Sequence[str]) -> Scores:
        """The metrics, with slices in this order. Each slice counts the same in the mean."""
        examples = {part: self._whole(part) for part in order}
        scores = {part: metrics(self._task, _summed(sums)).score for part, sums in examples.items()}
        # A slice whose rows have labels that no token reaches has no score.
        by_slice = {part: score for part, score in scores.items() if not math.isnan(score)}
        if not by_slice:
            return Scores({}, None, 0)
        whole: dict[str, float] = defaultdict(float)
        for part in self._parts:
            for name, value in _summed(self._whole(part)).items():
                whole[name] += value
        all_metrics = metrics(self._task, whole)
        return Scores(
            by_slice,
            float(np.mean(list(by_slice.values()))),
            self._examples,
            all_metrics.primary,
            all_metrics.values,
            mean_interval(self._task, examples),
        )

    def _whole(self, part: str) -> Sums:
        parts = self._parts[part]
        return {name: np.concatenate([one[name] for one in parts]) for name in parts[0]}

    def nll(self, part: str) -> float:
        """Mean negative log-likelihood of a slice's labels, in nats a position."""
        sums = _summed(self._whole(part))
        return sums["nll"] / sums["positions"]


def _summed(sums: Sums) -> dict[str, float]:
    return {name: float(values_N.sum()) for name, values_N in sums.items()}


def in_order(slices: Sequence[str]) -> list[str]:
    """Each slice once, in the order of first appearance."""
    return list(dict.fromkeys(slices))
