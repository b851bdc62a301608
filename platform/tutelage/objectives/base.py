"""The contracts of a loss term and of a combiner.

Shapes: B batch, C classes, K teachers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Evidence:
    """What one micro-batch offers to the loss terms."""

    student_BC: Tensor
    """Student logits, in any floating type; terms compute in fp32."""
    labels_B: Tensor
    """Class index, or -1 where the example is unlabelled."""
    teachers_KBC: Tensor | None = None
    """Teacher logits at temperature 1, in the order of the job's teachers; None when there are none."""
    weights_KB: Tensor | None = None
    """What the combiner made of them: each column sums to 1."""


class Term(Protocol):
    """One loss term. It returns a loss for each example and never a mean over the batch.

    The training divides the sum by the size of the global batch. An example then adds the same
    gradient whatever stands beside it, so any split into micro-batches and workers gives one result.
    """

    name: str
    weight: float

    def per_example(self, evidence: Evidence) -> Tensor:
        """Loss of each example, fp32 [B]; 0 where the term has nothing to say."""
        ...


class CombinerRule(Protocol):
    """How several teachers become one target: a weight for each teacher and example."""

    def weights(self, teachers_KBC: Tensor, slices_B: Sequence[str]) -> Tensor:
        """Weights [K, B], non-negative, each column summing to 1."""
        ...


def mixture(teachers_KBC: Tensor, weights_KB: Tensor, temperature: float = 1.0) -> Tensor:
    """The target distribution p_b = sum_k w_kb softmax(z_kb / T), fp32 [B, C]."""
    probabilities_KBC = torch.softmax(teachers_KBC.float() / temperature, dim=-1)
    return torch.einsum("kb,kbc->bc", weights_KB.float(), probabilities_KBC)
