"""The same weights for every example; equal weights are the uniform ensemble.

Shapes: B batch, P positions, K teachers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tutelage.objectives.base import Signal


class WeightedRule:
    """w_kp = w_k / sum(w)."""

    def __init__(self, weights: Sequence[float]) -> None:
        weights_K = torch.tensor(weights, dtype=torch.float32)
        self._weights_K = weights_K / weights_K.sum()

    def shares(self, slices_B: Sequence[str]) -> Tensor:
        """Weights [K, B]."""
        return self._weights_K[:, None].expand(-1, len(slices_B))

    def weights(self, signals: Sequence[Signal], slices_B: Sequence[str], examples_P: Tensor) -> Tensor:
        """Weights [K, P]."""
        return self._weights_K.to(examples_P.device)[:, None].expand(-1, len(examples_P))
