"""For each position, more weight to the teacher that is surer of it.

Shapes: B batch, P positions, V classes or vocabulary, K teachers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tutelage.objectives.base import Dense, Draws, Signal


class ConfidenceRule:
    """w_kp = softmax_k(-s * H(p_kp) / log V), with H the entropy of a teacher's own prediction.

    Dividing by log V makes the sharpness s mean the same for any number of classes. s = 0 is the
    uniform ensemble; s -> infinity leaves the surest teacher alone. A teacher that is sure and
    wrong is followed: the rule trusts each teacher's calibration.
    """

    def __init__(self, sharpness: float) -> None:
        self._sharpness = sharpness

    def shares(self, slices_B: Sequence[str]) -> None:
        """None: the weights depend on what the teachers say."""
        return

    def weights(self, signals: Sequence[Signal], slices_B: Sequence[str], examples_P: Tensor) -> Tensor:
        """Weights [K, P]. Raises ValueError for a payload that does not tell a teacher's entropy."""
        return torch.softmax(-self._sharpness * torch.stack([_doubt(signal) for signal in signals]), dim=0)


def _doubt(signal: Signal) -> Tensor:
    """Entropy [P] as a share of the largest possible one."""
    if isinstance(signal, Draws) and signal.doubt_P is not None:
        return signal.doubt_P
    if not isinstance(signal, Dense):
        raise ValueError("the confidence combiner needs dense, hidden, or each teacher's own draws")
    probabilities_PV = torch.softmax(signal.logits_PV.float(), dim=-1)
    entropy_P = -torch.xlogy(probabilities_PV, probabilities_PV).sum(-1)
    return entropy_P / math.log(signal.logits_PV.shape[-1])
