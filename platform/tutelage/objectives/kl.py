"""Forward KL from the combined teachers to the student (Hinton et al. 2015, arXiv:1503.02531).

Shapes: P positions, V classes or vocabulary, K teachers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tutelage.config import objectives as config
from tutelage.config.schedule import value_at
from tutelage.objectives.base import Dense, Draws, Evidence, Signal, TopK, mixture_of
from tutelage.objectives.partial import draws_loss, reached, top_k_kl


class KLTerm:
    """T^2 * KL(p || q), where p mixes the teachers and q is the student, both at temperature T.

    The factor T^2 keeps the gradient's size when T changes. What the value is goes by the payloads:

    * all dense or hidden: exactly T^2 * KL(sum_k w_k p_k || q);
    * otherwise the sum over teachers of w_k times each one's own term: the same gradient wherever those terms
      are exact, and a value larger by sum_k w_k KL(p_k || p), how much the teachers disagree;
    * the term of a top-k is the KL over its k labels and the tail taken as one: never above the exact one,
      and the student spreads its tail as it likes;
    * the term of draws is their cross-entropy -sum s log q, an unbiased estimate of KL plus the target's
      entropy, which no gradient sees.
    """

    name = "kl"

    def __init__(self, section: config.KL) -> None:
        self.weight = value_at(section.weight, 0.0)
        self.temperature = value_at(section.temperature, 0.0)

    def per_position(self, evidence: Evidence) -> Tensor:
        """Loss of each position, fp32 [P].

        Raises ValueError when no teacher was asked, or one answered at another temperature.
        """
        if not evidence.signals or evidence.weights_KP is None:
            raise ValueError("the kl objective got no teacher signals")
        student_PV = evidence.student_PV.float()
        if self.temperature != 1:
            student_PV = student_PV / self.temperature
        dense = [signal for signal in evidence.signals if isinstance(signal, Dense)]
        if len(dense) == len(evidence.signals):
            target_PV = mixture_of(dense, evidence.weights_KP, self.temperature)
            return _exact(target_PV, student_PV) * self.temperature**2
        together_P = reached(evidence.signals, student_PV)
        loss_P = student_PV.new_zeros(len(student_PV))
        drawn = []
        for signal, weight_P in zip(evidence.signals, evidence.weights_KP, strict=True):
            self._check_temperature(signal)
            match signal:
                case Dense():
                    own_PV = torch.softmax(signal.logits_PV.float() / self.temperature, dim=-1)
                    loss_P = loss_P + weight_P * _exact(own_PV, student_PV)
                case TopK():
                    loss_P = loss_P + weight_P * top_k_kl(signal, student_PV)
                case Draws():
                    drawn.append((signal, together_P if signal.mixture else weight_P))
        if drawn:
            loss_P = loss_P + draws_loss(drawn, student_PV)
        return loss_P * self.temperature**2

    def _check_temperature(self, signal: Signal) -> None:
        if not isinstance(signal, Dense) and signal.temperature != self.temperature:
            raise ValueError(
                f"a payload drawn or cut at temperature {signal.temperature:g} cannot serve "
                f"the kl objective at temperature {self.temperature:g}"
            )


def _exact(target_PV: Tensor, student_PV: Tensor) -> Tensor:
    """KL(target || softmax(student)) [P]; 0 where the target is all 0."""
    log_student_PV = torch.log_softmax(student_PV, dim=-1)
    # xlogy is 0 at p = 0, where p * log(p) would be NaN.
    entropy_P = torch.xlogy(target_PV, target_PV).sum(-1)
    divergence_P: Tensor = entropy_P - (target_PV * log_student_PV).sum(-1)
    return divergence_P
