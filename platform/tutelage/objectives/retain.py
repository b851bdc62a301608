"""Terms of an update that keep what the version before knew.

Shapes: P positions, V classes, W classes that the version before knew, W <= V.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from tutelage.config.objectives import KL
from tutelage.config.update import Distil
from tutelage.objectives.base import Dense, Evidence
from tutelage.objectives.kl import KLTerm


class RetainTerm:
    """Learning without forgetting (arXiv:1606.09282): T^2 KL(champion || student) on the champion's classes.

    The student's distribution is taken over these W classes alone, so that a class which is new may grow
    without a word from a model that does not know it.
    """

    name = "retain"

    def __init__(self, section: Distil) -> None:
        self._kl = KLTerm(KL(type="kl", temperature=section.temperature))
        self.weight = section.weight

    def per_position(self, evidence: Evidence) -> Tensor:
        """Loss of each position, fp32 [P]; 0 where the champion is lost. Raises ValueError without one."""
        champion = evidence.champion
        if not isinstance(champion, Dense):
            raise ValueError("the version before sends all its logits, and there are none")
        width = champion.logits_PV.shape[-1]
        weights_KP = torch.ones_like(champion.logits_PV[:, 0])[None]
        if champion.known_P is not None:
            weights_KP = weights_KP * champion.known_P
        known = replace(
            evidence, student_PV=evidence.student_PV[:, :width], signals=(champion,), weights_KP=weights_KP
        )
        return self._kl.per_position(known)


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
