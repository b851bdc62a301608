"""Elastic weight consolidation as its paper says it, one example at a time, only to compare with.

Kirkpatrick et al. 2017 (arXiv 1612.00796) with a quadratic term for each earlier context:
(lambda / 2) sum_t sum_i F_ti (theta_i - theta_ti)^2. F is the exact diagonal Fisher information,
the mean over examples of sum_c p_c (d log p_c / d theta)^2, by one backward pass for each example and label.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def fisher_one_by_one(
    parameters: Mapping[str, Tensor], examples: Iterable[T], logits_of: Callable[[T], Tensor]
) -> dict[str, Tensor]:
    """The mean over examples; `logits_of(example)` is [V], the outputs that compete."""
    totals = {name: torch.zeros_like(one) for name, one in parameters.items()}
    count = 0
    for example in examples:
        log_p_V = torch.log_softmax(logits_of(example), -1)
        for label, log_p in enumerate(log_p_V):
            grads = torch.autograd.grad(
                log_p,
                list(parameters.values()),
                retain_graph=label + 1 < len(log_p_V),
                materialize_grads=True,
            )
            for name, grad in zip(parameters, grads, strict=True):
                totals[name] += log_p.detach().exp() * grad**2
        count += 1
    return {name: total / count for name, total in totals.items()}


class ReferencePenalty:
    """The terms of all contexts so far, kept apart."""

    def __init__(self, lam: float) -> None:
        self._lam = lam
        self._terms: list[tuple[dict[str, Tensor], dict[str, Tensor]]] = []

    def add(self, importance: dict[str, Tensor], parameters: Mapping[str, Tensor]) -> None:
        """Remember one context: its importance and the weights at its end."""
        self._terms.append((importance, {name: one.detach().clone() for name, one in parameters.items()}))

    def loss(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """What is added to the loss of a batch."""
        total = torch.zeros((), device=next(iter(parameters.values())).device)
        for importance, center in self._terms:
            for name, one in parameters.items():
                total = total + (importance[name] * (one - center[name]) ** 2).sum()
        return self._lam / 2 * total
