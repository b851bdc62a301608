"""What a person should know of an update's new data: what is known already, repeated, or not measurable."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from actors.update.opened import Update
from tutelage.data.splits import SPLITS

MUCH = 0.5
"""From this share on it is said."""


def remarks(update: Update) -> list[str]:
    """Sentences about the new data; empty where there is nothing to say."""
    return [sentence for sentence in (_known(update), _repeated(update)) if sentence]


def unmeasured(update: Update) -> str:
    """Why the new slices have no accuracy, after a model was judged on labelled test rows."""
    labelled = sum(int((update.examples.labels(_rows(update, split)) >= 0).sum()) for split in SPLITS)
    if not labelled:
        return "the new data has no labels to measure"
    texts = len(set(_digests(update)))
    rows = sum(len(_rows(update, split)) for split in SPLITS)
    if texts == 1:
        return f"the new data is one text, {rows} times, so none is held out to measure a gain on"
    if not len(_rows(update, "test")):
        return f"none of the new data's {texts} texts is a test row to measure a gain on"
    return "no test row of the new data has a label to measure a gain on"


def _known(update: Update) -> str:
    """New texts that stand in the version's replay or held-out rows; what else it has read is not kept."""
    space = update.space
    old = [name for name in space.job.data.sources if name not in update.new]
    examples = update.examples
    kept: set[bytes] = set()
    for split in SPLITS:
        kept.update(examples.digests(examples.select(split, sources=old).rows))
    new = set(_digests(update))
    # Equal texts stand in one split: what the version holds out was left out of the new rows, and what the
    # new data holds out of the replayed ones.
    left_out = sum(space.rows.overlaps.get(name, 0) for name in update.new)
    given_up = sum(space.rows.overlaps.get(name, 0) for name in old)
    texts = len(new) + left_out
    known = min(texts, len(new & kept) + left_out + given_up)
    if not texts or known < MUCH * texts:
        return ""
    where = "in the version's replay or its held-out rows"
    if known == texts:
        return f"all {texts} texts of the new data are known already, {where}: nothing new is learned"
    return f"{known} of {texts} texts of the new data are known already, {where}"


def _repeated(update: Update) -> str:
    rows, texts = len(_digests(update)), len(set(_digests(update)))
    if texts == 1 and rows > 1:
        return f"the new data is one text, {rows} times"
    if rows - texts >= MUCH * rows and rows > 1:
        return f"{rows - texts} of {rows} rows of the new data repeat a text that stands in it already"
    return ""


def _rows(update: Update, split: str) -> NDArray[np.int64]:
    return update.examples.select(split, sources=update.new).rows


def _digests(update: Update) -> list[bytes]:
    return [digest for split in SPLITS for digest in update.examples.digests(_rows(update, split))]
