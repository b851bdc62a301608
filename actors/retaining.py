"""What an update adds to a training's loss: the version before as a teacher, stored logits of old texts.

Shapes: B batch, P positions, V classes, W classes known when logits were stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from actors.training import Increment
from tutelage.continual.replay.logits import read_logits
from tutelage.data.examples import Batch
from tutelage.objectives import Term
from tutelage.objectives.retain import RetainTerm, StoredLogitsTerm

Stored = Callable[[Batch, Tensor], Tensor | None]
"""Stored logits [P, V] of a batch beside the student's, NaN where there are none; None for no such batch."""


def retaining(increment: Increment | None, groups: Sequence[int] = ()) -> list[Term]:
    """The terms of an update, without those whose weight is 0; `groups` of each class."""
    if increment is None:
        return []
    terms: list[Term] = []
    if increment.distil is not None and increment.distil.weight > 0:
        terms.append(RetainTerm(increment.distil, groups))
    if increment.stored and increment.logits_weight > 0:
        terms.append(StoredLogitsTerm(increment.logits_weight))
    return terms


def stored_logits(increment: Increment | None) -> Stored:
    """Looks up what was stored with the texts of a batch, where a text is its one position."""
    if increment is None or not increment.stored or increment.logits_weight == 0:
        return lambda batch, student_PV: None
    known = read_logits(Path(increment.stored))

    def look_up(batch: Batch, student_PV: Tensor) -> Tensor | None:
        found = [known.get(digest) for digest in batch.digests]
        if all(one is None for one in found):
            return None
        stored_PV = torch.full(student_PV.shape, torch.nan, dtype=torch.float32)
        for position, one in enumerate(found):
            if one is not None:
                stored_PV[position, : len(one)] = torch.from_numpy(one)
        return stored_PV.to(student_PV.device)

    return look_up
