"""Generalised Jensen-Shannon divergence between the combined teachers and the student (arXiv:2306.13649).

Shapes: P positions, V classes or vocabulary, K teachers.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tutelage.config import objectives as config
from tutelage.config.schedule import value_at
from tutelage.objectives.base import Dense, Evidence


class JSDTerm:
    """T^2 * [b KL(p || m) + (1 - b) KL(q || m)], with m = b p + (1 - b) q, p the teachers, q the student.

    Both are at temperature T. For b -> 0 the formula divided by b tends to KL(p || q), for b -> 1 divided by
    1 - b to KL(q || p). At b = 0 and b = 1 itself, where it would be 0 for any student, the value is that
    limit: forward and reverse KL. Everything is computed from logarithms, so a label that the teachers hold
    for impossible has a finite loss.
    """

    name = "jsd"

    def __init__(self, section: config.JSD) -> None:
        self.weight = value_at(section.weight, 0.0)
        self.temperature = value_at(section.temperature, 0.0)
        self.beta = section.beta

    def per_position(self, evidence: Evidence) -> Tensor:
        """Loss of each position, fp32 [P]; 0 where no teacher covers it.

        Raises ValueError when no teacher was asked, or one sends top-k or draws.
        """
        if not evidence.signals or evidence.weights_KP is None:
            raise ValueError("the jsd objective got no teacher signals")
        dense = [signal for signal in evidence.signals if isinstance(signal, Dense)]
        if len(dense) < len(evidence.signals):
            raise ValueError("the jsd objective needs dense or hidden payloads: it looks at every label")
        covered_P = evidence.weights_KP.sum(0) > 0
        log_p_PV = log_mixture(dense, evidence.weights_KP, self.temperature)
        # Any distribution will do where there is none, as long as no infinity reaches the backward pass.
        log_p_PV = torch.where(covered_P[:, None], log_p_PV, torch.zeros_like(log_p_PV))
        log_q_PV = torch.log_softmax(evidence.student_PV.float() / self.temperature, dim=-1)
        loss_P = self._divergence(log_p_PV, log_q_PV)
        return torch.where(covered_P, loss_P, torch.zeros_like(loss_P)) * self.temperature**2

    def _divergence(self, log_p_PV: Tensor, log_q_PV: Tensor) -> Tensor:
        if self.beta == 0:
            return _kl(log_p_PV, log_q_PV)
        if self.beta == 1:
            return _kl(log_q_PV, log_p_PV)
        log_m_PV = torch.logaddexp(log_p_PV + math.log(self.beta), log_q_PV + math.log1p(-self.beta))
        return self.beta * _kl(log_p_PV, log_m_PV) + (1 - self.beta) * _kl(log_q_PV, log_m_PV)


def log_mixture(dense: list[Dense], weights_KP: Tensor, temperature: float) -> Tensor:
    """log sum_k w_kp softmax(z_kp / T), fp32 [P, V]; -inf where all weights are 0."""
    total_PV: Tensor | None = None
    for signal, weight_P in zip(dense, weights_KP.float(), strict=True):
        own_PV = torch.log_softmax(signal.logits_PV.float() / temperature, dim=-1) + weight_P.log()[:, None]
        total_PV = own_PV if total_PV is None else torch.logaddexp(total_PV, own_PV)
    if total_PV is None:
        raise ValueError("a mixture of no teachers")
    return total_PV


def _kl(log_a_PV: Tensor, log_b_PV: Tensor) -> Tensor:
    """sum a (log a - log b) [P]."""
    divergence_P: Tensor = (log_a_PV.exp() * (log_a_PV - log_b_PV)).sum(-1)
    return divergence_P
