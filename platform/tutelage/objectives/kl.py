"""Forward KL from the combined teachers to the student (Hinton et al. 2015, arXiv:1503.02531).

Shapes: B batch, C classes, K teachers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tutelage.config import objectives as config
from tutelage.objectives.base import Evidence, mixture


class KLTerm:
    """T^2 * KL(p || q), where p mixes the teachers and q is the student, both at temperature T.

    The factor T^2 keeps the gradient's size when T changes.
    """

    name = "kl"

    def __init__(self, section: config.KL) -> None:
        self.weight = section.weight
        self.temperature = section.temperature

    def per_example(self, evidence: Evidence) -> Tensor:
        """Loss of each example, fp32 [B]. Raises ValueError when no teacher was asked."""
        if evidence.teachers_KBC is None or evidence.weights_KB is None:
            raise ValueError("the kl objective got no teacher signals")
        target_BC = mixture(evidence.teachers_KBC, evidence.weights_KB, self.temperature)
        log_student_BC = torch.log_softmax(evidence.student_BC.float() / self.temperature, dim=-1)
        # xlogy is 0 at p = 0, where p * log(p) would be NaN.
        entropy_B = torch.xlogy(target_BC, target_BC).sum(-1)
        divergence_B: Tensor = entropy_B - (target_BC * log_student_BC).sum(-1)
        return divergence_B * self.temperature**2
