"""Which rows train, which choose, and which only report: by a hash of the text.

Rows are ordered by the digest of their text, whatever their order in the files. Each source gives its
first rows to `test`, the next to `validation`, the rest to `train`. Equal texts have equal digests, so
they stand together and take one split. A text that one source holds out is left out of every split
that another source would use earlier in its life (`train` and, for a test text, `validation`): no
example is trained on and then measured on.

Legend: N rows of one source, G distinct texts of all sources.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tutelage.errors import DataError

SPLITS = ("test", "validation", "train")
"""In the order in which they take rows."""
LEFT_OUT = 3
"""The code of a row that has no split."""
_FREE = 9


@dataclass(frozen=True)
class SplitPlan:
    """How one source is divided; counts are rows (int) or a share (float)."""

    source: str
    test: int | float
    validation: int | float
    train_cap: int | None = None
    fixed: str | None = None
    """All rows belong to this split."""


@dataclass(frozen=True)
class SplitResult:
    """order int64[M]: rows that have a split, in the order of the file; codes int8[N]: index into SPLITS."""

    order: NDArray[np.int64]
    codes: NDArray[np.int8]
    overlaps: int
    """Rows left out because another source holds their text out."""


def text_groups(digests: list[NDArray[np.uint64]]) -> list[NDArray[np.int64]]:
    """For each source, int64[N]: the rank of each row's digest among all distinct digests.

    Args:
        digests: for each source uint64[N, 2], the high and low half of the 16-byte digest.
    """
    everything = np.concatenate(digests) if digests else np.empty((0, 2), np.uint64)
    order = np.lexsort((everything[:, 1], everything[:, 0]))
    ordered = everything[order]
    new = np.ones(len(ordered), bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    groups = np.empty(len(ordered), np.int64)
    groups[order] = np.cumsum(new) - 1
    return np.split(groups, np.cumsum([len(d) for d in digests])[:-1])


def assign(groups: list[NDArray[np.int64]], plans: list[SplitPlan]) -> list[SplitResult]:
    """Divide all sources at once.

    Raises:
        DataError: test and validation leave a source without a row to train on.
    """
    distinct = 1 + max((int(g.max()) for g in groups if len(g)), default=-1)
    claimed = np.full(distinct, _FREE, np.int8)
    codes = [np.full(len(g), _FREE, np.int8) for g in groups]
    for code, split in enumerate(SPLITS):
        taken = []
        for group, plan, own in zip(groups, plans, codes, strict=True):
            open_rows = (own == _FREE) & (claimed[group] == _FREE)
            take = _take(group, open_rows, _wanted(plan, split, len(group)))
            own[take] = code
            taken.append(group[take])
        claimed[np.concatenate(taken)] = code
    return [_result(g, own, plan) for g, own, plan in zip(groups, codes, plans, strict=True)]


def _wanted(plan: SplitPlan, split: str, rows: int) -> int:
    if plan.fixed is not None:
        return rows if plan.fixed == split else 0
    if split == "train":
        return rows
    share = plan.test if split == "test" else plan.validation
    return share if isinstance(share, int) else round(share * rows)


def _take(group: NDArray[np.int64], open_rows: NDArray[np.bool_], wanted: int) -> NDArray[np.bool_]:
    """bool[N]: the first `wanted` open rows by digest; a text whose copies do not all fit is passed over."""
    names, counts = np.unique(group[open_rows], return_counts=True)
    filled = np.cumsum(counts)
    whole = int(np.searchsorted(filled, wanted, side="right"))
    chosen = np.zeros(len(names), bool)
    chosen[:whole] = True
    left = wanted - (int(filled[whole - 1]) if whole else 0)
    for i in range(whole, len(names)):
        if left == 0:
            break
        if counts[i] <= left:
            chosen[i] = True
            left -= int(counts[i])
    return open_rows & np.isin(group, names[chosen])


def _result(group: NDArray[np.int64], codes: NDArray[np.int8], plan: SplitPlan) -> SplitResult:
    overlaps = int((codes == _FREE).sum())
    codes = np.where(codes == _FREE, np.int8(LEFT_OUT), codes)
    train = SPLITS.index("train")
    if plan.fixed is None and not (codes == train).any():
        raise DataError(
            f"data.sources.{plan.source}.splits: of {len(codes)} rows, test ({plan.test}) and validation "
            f"({plan.validation}) leave none to train on",
            fix=f"ask for fewer rows (data.sources.{plan.source}.splits.test=0), give more data, or set "
            f"data.sources.{plan.source}.split when the source is all one split",
        )
    if overlaps == len(codes):
        raise DataError(
            f"data.sources.{plan.source}: all {overlaps} rows are held out by other sources",
            fix="remove the source, or the one that repeats its texts",
        )
    order = np.lexsort((np.arange(len(group)), group, codes))
    order = order[codes[order] != LEFT_OUT]
    if plan.train_cap is not None:
        surplus = order[codes[order] == train][plan.train_cap :]
        codes[surplus] = LEFT_OUT
        order = order[codes[order] != LEFT_OUT]
    return SplitResult(order.astype(np.int64), codes, overlaps)
