"""What is reported of an accuracy matrix, over seeds, as text and for machines.

R[i][j] is the accuracy on context j after context i was learnt, for j <= i; with T contexts:

ACC         mean_j R[T-1][j]                                (Lopez-Paz & Ranzato, arXiv 1706.08840)
BWT         mean_{j<T-1} R[T-1][j] - R[j][j]                (the same)
forgetting  mean_{j<T-1} max_{j<=i<T-1} R[i][j] - R[T-1][j] (Chaudhry et al. 2018, arXiv 1801.10112)
minimum     mean_{j<T-1} min_{i>j} R[i][j]                  (De Lange et al., arXiv 2205.13452; here
                                                            at the ends of contexts)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

Matrix = list[list[float]]
FIGURES = ("accuracy", "backward_transfer", "forgetting", "minimum")
TITLES = ("ACC", "BWT", "forgetting", "minimum")


def figures(matrix: Sequence[Sequence[float]]) -> dict[str, float]:
    """ACC, BWT, forgetting and minimum accuracy; the last three are 0, 0 and ACC where nothing came later."""
    last, final = len(matrix) - 1, matrix[-1]
    if not last:
        return dict(zip(FIGURES, (final[0], 0.0, 0.0, final[0]), strict=True))
    after = [[matrix[i][j] for i in range(j, last + 1)] for j in range(last)]
    return {
        "accuracy": mean(final),
        "backward_transfer": mean(column[-1] - column[0] for column in after),
        "forgetting": mean(max(column[:-1]) - column[-1] for column in after),
        "minimum": mean(min(column[1:]) for column in after),
    }


def spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and standard error; no error of one value."""
    return mean(values), stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None


@dataclass(frozen=True)
class Result:
    """One method on one protocol, with each seed."""

    protocol: str
    scenario: str
    method: str
    seeds: list[int]
    matrices: list[Matrix]
    seconds: list[float]

    def figure(self, name: str) -> tuple[float, float | None]:
        """Mean and standard error over seeds."""
        return spread([figures(one)[name] for one in self.matrices])

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        found = {name: dict(zip(("mean", "error"), self.figure(name), strict=True)) for name in FIGURES}
        return {**self.__dict__, "figures": found}


def percent(value: float, error: float | None, digits: int = 2) -> str:
    """`94.31 ± 0.05`, or without the error where there is none."""
    return f"{100 * value:.{digits}f}" + (f" ± {100 * error:.{digits}f}" if error is not None else "")


def table(results: Sequence[Result]) -> str:
    """Markdown, one line for each method; accuracies in percent."""
    rows = [
        [one.method, *(percent(*one.figure(name)) for name in FIGURES), f"{mean(one.seconds):.1f}"]
        for one in results
    ]
    return markdown(["method", *TITLES, "s a seed"], rows)


def matrix_text(result: Result) -> str:
    """The mean matrix over seeds, in percent."""
    sizes = range(len(result.matrices[0]))
    rows = [
        [
            f"after {i + 1}",
            *(f"{100 * mean(m[i][j] for m in result.matrices):.1f}" if j <= i else "" for j in sizes),
        ]
        for i in sizes
    ]
    return markdown([result.method, *(f"on {j + 1}" for j in sizes)], rows)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of one width."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        first, *rest = (
            cell.ljust(w) if not n else cell.rjust(w)
            for n, (cell, w) in enumerate(zip(cells, widths, strict=True))
        )
        return "| " + " | ".join([first, *rest]) + " |"

    rule = "|" + "|".join("-" * (w + 2) if not n else "-" * (w + 1) + ":" for n, w in enumerate(widths)) + "|"
    return "\n".join([line(head), rule, *(line(row) for row in rows)])
