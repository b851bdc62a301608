"""For each slice, more weight to the teacher that predicts its labelled validation rows better.

Shapes: B batch, P positions, K teachers, S slices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from tutelage.errors import ConfigError
from tutelage.objectives.base import Signal

LEAST = 1e-6
"""A teacher that nowhere weighs as much is asked and not heard."""
Measured = Mapping[str, Mapping[str, float]]
"""Mean negative log-likelihood in nats of the validation labels: slice -> teacher -> value."""


class ValidatedRule:
    """w_ks = softmax_k(-s * NLL_ks), with NLL measured on the labelled validation rows of slice s.

    A specialist gets its own domain, and a teacher that is sure and wrong elsewhere is not followed
    there, which a teacher's own confidence cannot tell. The student hears of slices in training alone.
    A slice without labelled validation rows takes the mean over the others. Raises ConfigError when a
    teacher would weigh nothing on every slice.
    """

    def __init__(self, sharpness: float, measured: Measured, teachers: Sequence[str]) -> None:
        self._weights_K = {
            name: torch.softmax(torch.tensor([-sharpness * nll[teacher] for teacher in teachers]), dim=0)
            for name, nll in measured.items()
        }
        weights_SK = torch.stack(list(self._weights_K.values()))
        for teacher, most in zip(teachers, weights_SK.amax(0).tolist(), strict=True):
            if most < LEAST:
                raise ConfigError(
                    f"combiner.sharpness {sharpness:g}: teacher '{teacher}' weighs {most:.1g} at most by "
                    "its validation rows, and would be asked and never heard",
                    fix="lower combiner.sharpness, or leave the teacher out",
                )
        self._elsewhere_K = weights_SK.mean(0)

    def shares(self, slices_B: Sequence[str]) -> Tensor:
        """Weights [K, B]."""
        return torch.stack([self._weights_K.get(name, self._elsewhere_K) for name in slices_B], dim=1)

    def weights(self, signals: Sequence[Signal], slices_B: Sequence[str], examples_P: Tensor) -> Tensor:
        """Weights [K, P]."""
        return self.shares(slices_B).to(examples_P.device)[:, examples_P]
