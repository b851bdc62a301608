"""The same weights for every example; equal weights are the uniform ensemble.

Shapes: B batch, C classes, K teachers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class WeightedRule:
    """w_kb = w_k / sum(w)."""

    def __init__(self, weights: Sequence[float]) -> None:
        weights_K = torch.tensor(weights, dtype=torch.float32)
        self._weights_K = weights_K / weights_K.sum()

    def weights(self, teachers_KBC: Tensor, slices_B: Sequence[str]) -> Tensor:
        """Weights [K, B]."""
        batch = teachers_KBC.shape[1]
        return self._weights_K.to(teachers_KBC.device)[:, None].expand(-1, batch)
