"""Terms of an update that keep what the version before knew.

Shapes: P positions, V classes, W classes that the version before knew, W <= V.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from tutelage.config.objectives import KL
from tutelage.config.update import Distil
from tutelage.objectives.base import Dense, Evidence
from tutelage.objectives.competing import spans
from tutelage.objectives.kl import KLTerm


class RetainTerm:
    """Learning without forgetting (arXiv:1606.09282): T^2 KL(champion || student) on the champion's classes.

    The student's distribution is taken over these W classes alone, so that a class which is new may grow
    without a word from a model that does not know it. Where classes compete within groups alone, it is the
    mean of the loss over the groups that the champion knows.
    """

    name = "retain"

    def __init__(self, section: Distil, groups: Sequence[int] = ()) -> None:
        """`groups`: of each class; one for all where there are none."""
        self._groups = groups
        self._kl = KLTerm(KL(type="kl", temperature=section.temperature))
        self.weight = section.weight

    def per_position(self, evidence: Evidence) -> Tensor:
        """Loss of each position, fp32 [P]; 0 where the champion is lost. Raises ValueError without one."""
        champion = evidence.champion
        if not isinstance(champion, Dense):
            raise ValueError("the version before sends all its logits, and there are none")
        parts = spans(self._groups, champion.logits_PV.shape[-1])
        weights_KP = torch.ones_like(champion.logits_PV[:, 0])[None]
        if champion.known_P is not None:
            weights_KP = weights_KP * champion.known_P
        losses = []
        for part in parts:
            taught = replace(champion, logits_PV=champion.logits_PV[:, part])
            known = replace(
                evidence, student_PV=evidence.student_PV[:, part], signals=(taught,), weights_KP=weights_KP
            )
            losses.append(self._kl.per_position(known))
        return torch.stack(losses).mean(0)


class StoredLogitsTerm:
    """DER++ (arXiv:2004.07211): squared distance from the logits that were stored with a replayed text.

    The mean over the classes that were known when they were stored; later ones are NaN there.
    """

    name = "stored-logits"

    def __init__(self, weight: float) -> None:
        self.weight = weight

    def per_position(self, evidence: Evidence) -> Tensor:
        """Loss of each position, fp32 [P]; 0 where nothing is stored."""
        student_PV = evidence.student_PV.float()
        if evidence.stored_PV is None:
            return student_PV.new_zeros(len(student_PV))
        stored_PV = evidence.stored_PV
        there_PV = stored_PV.isfinite()
        apart_PV = torch.where(there_PV, student_PV - stored_PV.nan_to_num(0.0), student_PV.new_zeros(()))
        loss_P: Tensor = apart_PV.square().sum(-1) / there_PV.sum(-1).clamp_min(1)
        return loss_P
