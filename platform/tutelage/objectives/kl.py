"""Forward KL from the combined teachers to the student (Hinton et al. 2015, arXiv:1503.02531).

Shapes: P positions, V classes or vocabulary, K teachers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tutelage.config import objectives as config
from tutelage.objectives.base import Dense, Evidence, mixture


class KLTerm:
    """T^2 * KL(p || q), where p mixes the teachers and q is the student, both at temperature T.

    The factor T^2 keeps the gradient's size when T changes.
    """

    name = "kl"

    def __init__(self, section: config.KL) -> None:
        self.weight = section.weight
        self.temperature = section.temperature

    def per_position(self, evidence: Evidence) -> Tensor:
        """Loss of each position, fp32 [P]. Raises ValueError when no teacher was asked."""
        if not evidence.signals or evidence.weights_KP is None:
            raise ValueError("the kl objective got no teacher signals")
        dense = [signal.logits_PV for signal in evidence.signals if isinstance(signal, Dense)]
        target_PV = mixture(torch.stack(dense), evidence.weights_KP, self.temperature)
        log_student_PV = torch.log_softmax(evidence.student_PV.float() / self.temperature, dim=-1)
        # xlogy is 0 at p = 0, where p * log(p) would be NaN.
        entropy_P = torch.xlogy(target_PV, target_PV).sum(-1)
        divergence_P: Tensor = entropy_P - (target_PV * log_student_PV).sum(-1)
        return divergence_P * self.temperature**2
