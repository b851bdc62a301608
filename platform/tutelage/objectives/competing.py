"""Classes that compete with each other, where whoever asks says which task a text belongs to.

In a task-incremental stream (van de Ven and Tolias, arXiv:1904.07734) the classes of one training are never
compared with those of another. Shapes: P positions, V classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

CLOSED = -1e4
"""Logit of a class that takes no part: its probability and its gradient are 0 in fp32, and nothing is NaN."""


def own_classes(logits_PV: Tensor, labels_P: Tensor, groups: Sequence[int]) -> Tensor:
    """Logits in which only the classes in the group of each label take part; all where there is no label.

    Args:
        groups: of each class; nothing is closed where there are none.
    """
    if not groups:
        return logits_PV
    groups_V = torch.tensor(groups, device=logits_PV.device)
    foreign_PV = groups_V[labels_P.clamp_min(0)][:, None] != groups_V[: logits_PV.shape[-1]]
    return logits_PV.masked_fill(foreign_PV & (labels_P >= 0)[:, None], CLOSED)


def spans(groups: Sequence[int], width: int) -> list[list[int]]:
    """The first `width` classes by group; all in one where there are no groups."""
    found: dict[int, list[int]] = {}
    for index, group in enumerate(groups[:width] or [0] * width):
        found.setdefault(group, []).append(index)
    return list(found.values())
