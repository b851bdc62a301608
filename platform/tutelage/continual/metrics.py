"""What a stream of trainings has learned and forgotten.

R[i][j] is the accuracy on slice j after training i; slices are numbered by the training that brought them,
so R is lower triangular where nobody was tested on what was still to come (Lopez-Paz and Ranzato 2017,
arXiv:1706.08840; forgetting after Chaudhry et al. 2018, arXiv:1801.10112; minimum accuracy after
De Lange et al. 2023, arXiv:2205.13452).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Protocol

Matrix = Sequence[Sequence[float]]
"""R; NaN where nothing was measured, which no mean, maximum or minimum counts."""


@dataclass(frozen=True)
class Summary:
    """Numbers of a whole stream, each in points of accuracy between 0 and 1."""

    accuracy: float
    """ACC: mean of the last row."""
    backward: float
    """BWT: mean of R[last][j] - R[j][j] over earlier slices; below 0 is forgetting. NaN with one."""
    forward: float
    """FWT: mean of R[j-1][j] - untrained[j]: what is known of a slice before it comes. NaN if unmeasured."""
    forgetting: float
    """Mean over earlier slices of max_i R[i][j] - R[last][j], i before the last. NaN with one training."""
    minimum: float
    """Mean over earlier slices of the smallest R[i][j] with i > j: how deep it ever fell. NaN with one."""


def summary(matrix: Matrix, untrained: Sequence[float] | None = None) -> Summary:
    """All numbers of an accuracy matrix. Raises ValueError for one that is not square."""
    size = len(matrix)
    if size == 0 or any(len(row) != size for row in matrix):
        raise ValueError("an accuracy matrix is square and has a row")
    last, earlier = matrix[-1], range(size - 1)
    ahead = [] if untrained is None else [matrix[j - 1][j] - untrained[j] for j in range(1, size)]
    return Summary(
        accuracy=_mean(last),
        backward=_mean([last[j] - matrix[j][j] for j in earlier]),
        forward=_mean(ahead),
        forgetting=_mean([max(_known(matrix[i][j] for i in range(j, size - 1))) - last[j] for j in earlier]),
        minimum=_mean([min(_known(matrix[i][j] for i in range(j + 1, size))) for j in earlier]),
    )


class Training(Protocol):
    """One training of a stream."""

    @property
    def slices(self) -> Sequence[str]:
        """What was new in it."""
        ...

    @property
    def accuracy(self) -> Mapping[str, float]:
        """By slice, after it."""
        ...

    @property
    def before(self) -> Mapping[str, float]:
        """Of the new slices, before it."""
        ...


def matrix_of(trainings: Sequence[Training]) -> list[list[float]]:
    """R from trainings in their order. What a training brought together counts as one slice, by the mean.

    What was measured of new slices before their training stands above the diagonal, R[j-1][j].
    """
    rows = [
        [_mean([one.accuracy[name] for name in other.slices if name in one.accuracy]) for other in trainings]
        for one in trainings
    ]
    for j, new in enumerate(trainings[1:], 1):
        rows[j - 1][j] = _mean([new.before[name] for name in new.slices if name in new.before])
    return rows


def forgotten(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """How far the accuracy of each slice fell (below 0: rose); slices that both have."""
    return {name: before[name] - after[name] for name in before if name in after}


def _mean(values: Sequence[float]) -> float:
    return mean(_known(values))


def _known(values: Iterable[float]) -> list[float]:
    """The measured ones; one NaN when there are none."""
    return [value for value in values if not math.isnan(value)] or [math.nan]
