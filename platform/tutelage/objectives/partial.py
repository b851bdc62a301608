"""Forward KL from a signal that does not name every probability: a top-k with tail, or draws.

No [P, V] tensor is kept for the backward pass besides the student's logits.

Shapes: P positions, V classes or vocabulary, K teachers, k entries of a top-k, R drawn labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tutelage.objectives.base import Draws, Signal, TopK


def top_k_kl(signal: TopK, student_PV: Tensor) -> Tensor:
    """KL over k + 1 cells [P]: sum_j p_j (log p_j - log q_j) + t (log t - log u), t and u the tails.

    The tails are t = 1 - sum_j p_j and u = 1 - sum_j q_j. log u comes from the logits of the labels outside
    the top k, so that it is right where u is far below the resolution of 1. student_PV: logits over T.
    """
    p_Pk = signal.log_p_Pk.exp()
    tail_P = (1 - p_Pk.sum(-1)).clamp(min=0)
    all_P = torch.logsumexp(student_PV, dim=-1)
    log_q_Pk = student_PV.gather(1, signal.ids_Pk) - all_P[:, None]
    log_u_P = _outside(student_PV, signal.ids_Pk) - all_P
    inside_P = (p_Pk * (signal.log_p_Pk - log_q_Pk)).sum(-1)
    outside_P: Tensor = torch.xlogy(tail_P, tail_P) - tail_P * log_u_P
    return inside_P + outside_P


def draws_loss(draws: Sequence[tuple[Draws, Tensor]], student_PV: Tensor) -> Tensor:
    """Cross-entropy on draws [P]: -sum_r s_r log q[id_r]; 0 without draws.

    All teachers in one pass over the vocabulary, forward and back: a pass for each would cost the student
    more than the rest of its loss.

    Args:
        draws: each teacher's, with the weight of each position [P] that its shares are multiplied by.
        student_PV: logits over T.
    """
    ids_R = torch.cat([signal.ids_R for signal, _ in draws])
    positions_R = torch.cat([signal.positions_R for signal, _ in draws])
    shares_R = torch.cat([signal.shares_R * weight_P[signal.positions_R] for signal, weight_P in draws])
    loss_P: Tensor = _OnDraws.apply(student_PV, ids_R, positions_R, shares_R)  # type: ignore[no-untyped-call]
    return loss_P


def reached(signals: Sequence[Signal], student_PV: Tensor) -> Tensor:
    """What draws from a mixture are multiplied by [P]: 1 over the share of those who cover the position.

    With w_k the share that teacher k was to make, the draws that are there have the mean sum_k w_k p_k over
    the teachers that are there, so dividing by the sum of their w_k gives the renormalised mixture without
    bias. 1 without a mixture.
    """
    asked_P = [
        signal.asked_P if signal.known_P is None else signal.asked_P * signal.known_P
        for signal in signals
        if isinstance(signal, Draws) and signal.mixture and signal.asked_P is not None
    ]
    if not asked_P:
        return torch.ones_like(student_PV[:, 0])
    there_P = torch.stack(asked_P).sum(0)
    return 1 / torch.where(there_P > 0, there_P, torch.ones_like(there_P))


def _outside(student_PV: Tensor, ids_Pk: Tensor) -> Tensor:
    """log sum exp over the labels that are not among the ids [P]."""
    result: Tensor = _Outside.apply(student_PV, ids_Pk)  # type: ignore[no-untyped-call]
    return result


class _Outside(torch.autograd.Function):
    """Autograd would keep a copy of the logits for each teacher; this computes it again."""

    @staticmethod
    def forward(ctx: Any, student_PV: Tensor, ids_Pk: Tensor) -> Tensor:
        lowest = torch.finfo(student_PV.dtype).min
        outside_P = student_PV.scatter(1, ids_Pk, -torch.inf).logsumexp(-1).clamp(min=lowest)
        ctx.save_for_backward(student_PV, ids_Pk, outside_P)
        return outside_P

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None]:
        student_PV, ids_Pk, outside_P = ctx.saved_tensors
        shares_PV = student_PV.scatter(1, ids_Pk, -torch.inf).sub_(outside_P[:, None]).exp_()
        return shares_PV.mul_(slopes[0][:, None]), None


class _OnDraws(torch.autograd.Function):
    """-sum_r s_r log q[id_r]; its gradient is made in one [P, V] tensor, where autograd would add up two."""

    @staticmethod
    def forward(ctx: Any, student_PV: Tensor, ids_R: Tensor, positions_R: Tensor, shares_R: Tensor) -> Tensor:
        all_P = torch.logsumexp(student_PV, dim=-1)
        total_P = torch.zeros_like(all_P).index_add(0, positions_R, shares_R)
        drawn_P = torch.zeros_like(all_P).index_add(0, positions_R, shares_R * student_PV[positions_R, ids_R])
        ctx.save_for_backward(student_PV, ids_R, positions_R, shares_R, total_P)
        loss_P: Tensor = total_P * all_P - drawn_P
        return loss_P

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None, None]:
        student_PV, ids_R, positions_R, shares_R, total_P = ctx.saved_tensors
        (slope_P,) = slopes
        gradient_PV = torch.softmax(student_PV, dim=-1).mul_((total_P * slope_P)[:, None])
        drawn_R = -shares_R * slope_P[positions_R]
        gradient_PV.index_put_((positions_R, ids_R), drawn_R, accumulate=True)
        return gradient_PV, None, None, None
