"""For each example, more weight to the teacher that is surer of it.

Shapes: B batch, C classes, K teachers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


class ConfidenceRule:
    """w_kb = softmax_k(-s * H(p_kb) / log C), with H the entropy of a teacher's own prediction.

    Dividing by log C makes the sharpness s mean the same for any number of classes. s = 0 is the
    uniform ensemble; s -> infinity leaves the surest teacher alone. A teacher that is sure and
    wrong is followed: the rule trusts each teacher's calibration.
    """

    def __init__(self, sharpness: float) -> None:
        self._sharpness = sharpness

    def weights(self, teachers_KBC: Tensor, slices_B: Sequence[str]) -> Tensor:
        """Weights [K, B]."""
        probabilities_KBC = torch.softmax(teachers_KBC.float(), dim=-1)
        entropy_KB = -torch.xlogy(probabilities_KBC, probabilities_KBC).sum(-1)
        return torch.softmax(-self._sharpness * entropy_KB / math.log(teachers_KBC.shape[-1]), dim=0)
