"""How far an accuracy on so many rows can be trusted.

A row is right or wrong, so the number of right ones is binomial. Shares are fractions of one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tutelage.tasks.interval import Z95, wilson

__all__ = ["Z95", "change_error", "error", "interval", "mean_error", "weight"]

interval = wilson


def error(share: float, rows: int) -> float:
    """Standard error of an accuracy. One right and one wrong row are added, so that it is never 0."""
    smoothed = (share * rows + 1) / (rows + 2)
    return math.sqrt(smoothed * (1 - smoothed) / rows)


def change_error(before: float, after: float, rows: int) -> float | None:
    """Standard error of a change, as of two samples. None where the number of rows is not known.

    Both figures are of the same rows, on which two versions mostly agree: the true error is smaller. Which
    rows changed is not kept, so this is the careful side.
    """
    return math.hypot(error(before, rows), error(after, rows)) if rows > 0 else None


def mean_error(errors: Sequence[float | None]) -> float | None:
    """Standard error of a mean of independent figures; None where one of them is not known."""
    known = [one for one in errors if one is not None]
    if not known or len(known) < len(errors):
        return None
    return math.sqrt(sum(one * one for one in known)) / len(known)


def weight(change: float | None, standard_error: float | None) -> str:
    """What a change is worth: `within noise` below its standard error, `uncertain` within 95 %, `clear`."""
    if change is None or standard_error is None:
        return ""
    if abs(change) < 1e-12:
        return "no change"
    if abs(change) < standard_error:
        return "within noise"
    return "uncertain" if abs(change) < Z95 * standard_error else "clear"
