"""Rows of different length as one matrix.

Legend: B rows, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Side = Literal["left", "right"]

PAD_MULTIPLE = 8
"""T is a multiple of this (or the limit), so that few different shapes occur."""


def padded_width(longest: int, limit: int | None) -> int:
    """T for rows of at most `longest` tokens: a multiple of 8, but never beyond `limit`.

    A model may have no position after its limit, which need not be a multiple of anything.
    """
    rounded = max(1, -(-longest // PAD_MULTIPLE)) * PAD_MULTIPLE
    return rounded if limit is None else max(longest, min(rounded, limit))


def pad_rows(
    rows: Sequence[Sequence[int] | NDArray[np.integer]], fill: int, width: int, side: Side = "right"
) -> NDArray[np.int64]:
    """int64 [B, T]: each row at one side of its line, `fill` beside it."""
    rows_BT = np.full((len(rows), width), fill, np.int64)
    for b, row in enumerate(rows):
        if side == "right":
            rows_BT[b, : len(row)] = row
        else:
            rows_BT[b, width - len(row) :] = row
    return rows_BT


def mask_rows(lengths: Sequence[int], width: int, side: Side = "right") -> NDArray[np.int64]:
    """int64 [B, T]: 1 on tokens, 0 on padding."""
    places_T = np.arange(width)[None, :]
    lengths_B = np.asarray(lengths, np.int64)[:, None]
    mask_BT = places_T < lengths_B if side == "right" else places_T >= width - lengths_B
    return mask_BT.astype(np.int64)
