"""Where weights are held, and how firmly: all that a quadratic penalty needs of the past.

EWC keeps one term for each earlier training t (Kirkpatrick et al. 2017), with the half that the Laplace
approximation has:

    1/2 sum_t sum_i F_ti (theta_i - theta_ti)^2

A sum of quadratics in one variable is a quadratic, so two numbers a weight hold all of them exactly:

    precision_i = sum_t F_ti        centre_i = sum_t F_ti theta_ti / precision_i

up to a constant that no gradient sees. Online EWC (Schwarz et al. 2018, arXiv:1805.06370) forgets:
precision <- gamma precision + F, centre <- theta.

Shapes: by name of parameter, fp32, the shape of the parameter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tutelage.continual.importance import read_tensors, write_tensors, zeros_like
from tutelage.errors import StoreError


@dataclass(frozen=True, eq=False)
class Anchors:
    """Precision and centre of each weight that is held."""

    precision: dict[str, Tensor]
    center: dict[str, Tensor]
    count: float = 0.0
    """Trainings that the precision is the sum of; with forgetting each counts as what is left of it."""

    @classmethod
    def empty(cls) -> Anchors:
        """Nothing is held."""
        return cls({}, {})

    def add(self, importance: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> Anchors:
        """With one more training: its mean importance, and the weights it ended with."""
        precision, center = dict(self.precision), dict(self.center)  # what was frozen stays held
        for name, new in importance.items():
            old, mean = self._grown(name, new)
            total = old + new.float()
            theta = weights[name].detach().float()
            # Where nothing was ever important the centre is never looked at; keep it finite.
            center[name] = torch.where(
                total > 0, (old * mean + new.float() * theta) / total.clamp_min(1e-45), theta
            )
            precision[name] = total
        return Anchors(precision, center, self.count + 1)

    def decay_to(
        self, importance: Mapping[str, Tensor], weights: Mapping[str, Tensor], gamma: float
    ) -> Anchors:
        """With one more training, the earlier ones counting gamma times as much as before."""
        precision = {name: gamma * old for name, old in self.precision.items()}
        precision |= {
            name: gamma * self._grown(name, new)[0] + new.float() for name, new in importance.items()
        }
        center = self.center | {name: weights[name].detach().float().clone() for name in importance}
        return Anchors(precision, center, gamma * self.count + 1)

    def strength(self, lam: float, *, normalised: bool = True) -> dict[str, Tensor]:
        """Curvature of the penalty, lambda * F, by name.

        Normalised, the importances of one training have the mean 1 over all weights, so that lambda is the
        mean curvature that the penalty adds: the same lambda then means the same for any model, measure of
        importance and number of examples.
        """
        unit = self.unit() if normalised else 1.0
        return {name: value * (lam / unit) for name, value in self.precision.items()}

    def unit(self) -> float:
        """Mean importance of a weight for one training; 1 where nothing is important."""
        weights = sum(value.numel() for value in self.precision.values())
        total = sum(float(value.double().sum()) for value in self.precision.values())
        mean = total / max(1, weights) / max(self.count, 1e-12)
        return mean if mean > 0 else 1.0

    def save(self, path: Path) -> None:
        """Write one safetensors file, which appears whole."""
        tensors = {f"precision.{name}": value for name, value in self.precision.items()}
        tensors |= {f"center.{name}": value for name, value in self.center.items()}
        write_tensors(path, tensors, {"count": self.count})

    @classmethod
    def load(cls, path: Path) -> Anchors:
        """Read what `save` wrote. Raises StoreError."""
        tensors, about = read_tensors(path)
        parts: dict[str, dict[str, Tensor]] = {"precision": {}, "center": {}}
        try:
            for name, value in tensors.items():
                part, _, rest = name.partition(".")
                parts[part][rest] = value
            return cls(parts["precision"], parts["center"], about["count"])
        except KeyError as problem:
            raise StoreError(
                f"{path} holds no anchors: {problem}", fix="make it anew with --compute-state"
            ) from problem

    def _grown(self, name: str, new: Tensor) -> tuple[Tensor, Tensor]:
        """Precision and centre in the shape of `new`: rows that a head has gained are not held."""
        if name not in self.precision:
            return zeros_like({name: new})[name], zeros_like({name: new})[name]
        old, center = self.precision[name], self.center[name]
        return (old, center) if old.shape == new.shape else (grown(old, new.shape), grown(center, new.shape))


def grown(old: Tensor, shape: torch.Size | tuple[int, ...]) -> Tensor:
    """The tensor with rows of 0 appended. Raises ValueError when more than its rows differ."""
    if old.shape[1:] != tuple(shape)[1:] or old.shape[0] > shape[0]:
        raise ValueError(f"{tuple(old.shape)} cannot grow to {tuple(shape)}")
    return torch.cat([old, old.new_zeros(shape[0] - old.shape[0], *old.shape[1:])])
