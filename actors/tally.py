"""Metrics of one model, counted batch by batch and told by slice.

Shapes: P positions, V classes or vocabulary, B batch.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from tutelage.config.task import Task
from tutelage.data.examples import Batch
from tutelage.tasks import StudentRows
from tutelage.tasks.metrics import metrics, tally


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


class Tally:
    """Sums over examples, kept for each slice."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._sums: dict[str, dict[str, float]] = {}
        self._examples = 0

    def add(self, logits_PV: Tensor, at: StudentRows, batch: Batch, slices_B: Sequence[str]) -> None:
        """Count one batch of labelled examples."""
        found = tally(self._task, logits_PV, at.labels_P, at.examples_P, batch)
        self._examples += len(batch.rows)
        slices = np.array(slices_B)
        for part in in_order(slices_B):
            kept = self._sums.setdefault(part, defaultdict(float))
            for name, values_B in found.items():
                kept[name] += float(values_B[slices == part].sum())

    def scores(self, order: Sequence[str]) -> Scores:
        """The metrics, with slices in this order. Each slice counts the same in the mean."""
        scores = {part: metrics(self._task, self._sums[part]).score for part in order}
        # A slice whose rows have labels that no token reaches has no score.
        by_slice = {part: score for part, score in scores.items() if not math.isnan(score)}
        whole: dict[str, float] = defaultdict(float)
        for sums in self._sums.values():
            for name, value in sums.items():
                whole[name] += value
        if not by_slice:
            return Scores({}, None, 0)
        all_metrics = metrics(self._task, whole)
        return Scores(
            by_slice,
            float(np.mean(list(by_slice.values()))),
            self._examples,
            all_metrics.primary,
            all_metrics.values,
        )

    def nll(self, part: str) -> float:
        """Mean negative log-likelihood of a slice's labels, in nats a position."""
        return self._sums[part]["nll"] / self._sums[part]["positions"]


def in_order(slices: Sequence[str]) -> list[str]:
    """Each slice once, in the order of first appearance."""
    return list(dict.fromkeys(slices))
