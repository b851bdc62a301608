"""Fisher information of linear layers as Kronecker blocks: which directions matter, not only which weights.

    F of a weight W [O, I]  ~  G (x) A,   A = mean of a a^T over inputs,   G = 1/N sum of g g^T over slopes

Martens and Grosse 2015 (arXiv:1503.05671), over tokens as in Eschenhagen et al. 2023 (arXiv:2311.00636,
"expand"); as a penalty Ritter et al. 2018 (arXiv:1805.07810):

    1/2 k tr(G D A D^T),  D = W - W*,  with the gradient k G D A

With eigenvectors U of A and V of G the proximal step is exact as well:
D <- V [ (V^T D U) / (1 + lr k g a^T) ] U^T. Biases, embeddings and norms keep their diagonal. Sums of A and G
are additive, as all importance is.

Shapes: O outputs, I inputs, R rows (an example and token each).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tutelage.continual.importance import read_tensors, write_tensors

_A, _G, _ROWS = "|A", "|G", "|R"


class BatchBlocks:
    """Sums of one batch over all its directions.

    A batch's inputs count once, and rows that no direction reaches, such as padding, not at all: their inputs
    have nothing to do with the answer.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._given: dict[str, Tensor] = {}
        self._reached: dict[str, Tensor] = {}

    def add(self, factors: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        """The two factors [R, O] and [R, I] of each weight's gradient in one direction."""
        for name, (slope_RO, given_RI) in factors.items():
            product_OO, reached_R = slope_RO.T @ slope_RO, (slope_RO != 0).any(1)
            if name in self._given:
                self._sums[name + _G] += product_OO
                self._reached[name] |= reached_R
            else:
                self._sums[name + _G] = product_OO
                self._given[name], self._reached[name] = given_RI, reached_R

    def sums(self) -> dict[str, Tensor]:
        """By name of the weight and of what is summed."""
        found = dict(self._sums)
        for name, all_RI in self._given.items():
            given_RI = all_RI[self._reached[name]]
            found[name + _A] = given_RI.T @ given_RI
            found[name + _ROWS] = torch.tensor([float(len(given_RI))], device=given_RI.device)
        return found


def split_sums(sums: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(diagonals, sums of blocks) of an importance with blocks."""
    ours = {name for name in sums if name.endswith((_A, _G, _ROWS))}
    return {n: v for n, v in sums.items() if n not in ours}, {n: sums[n] for n in ours}


@dataclass(frozen=True, eq=False)
class Blocks:
    """A and G of each linear weight, fp32, by its name; one training, or several with forgetting."""

    inputs: dict[str, Tensor]
    slopes: dict[str, Tensor]
    count: float = 1.0
    """Trainings that the slopes are the sum of; with forgetting each counts as what is left of it."""

    def fits(self, name: str, weight: Tensor) -> bool:
        """Whether the block of this name is of a weight of this shape."""
        return tuple(weight.shape) == (len(self.slopes[name]), len(self.inputs[name]))

    @classmethod
    def of(cls, sums: Mapping[str, Tensor], examples: int) -> Blocks:
        """From the sums of a measurement."""
        names = [name.removesuffix(_A) for name in sums if name.endswith(_A)]
        inputs = {name: sums[name + _A] / sums[name + _ROWS].clamp_min(1) for name in names}
        return cls(inputs, {name: sums[name + _G] / max(1, examples) for name in names})

    def after(self, new: Blocks, gamma: float) -> Blocks:
        """With one more training: the factors of both are averaged, the slopes faded by gamma.

        A sum of Kronecker products is none; this keeps the form (Ritter et al. keep all of them).
        """
        inputs, slopes = {}, {}
        for name, a_II in new.inputs.items():
            known = name in self.inputs and self.slopes[name].shape == new.slopes[name].shape
            inputs[name] = (self.inputs[name] + a_II) / 2 if known else a_II
            slopes[name] = gamma * self.slopes[name] + new.slopes[name] if known else new.slopes[name]
        return Blocks(inputs, slopes, gamma * self.count + 1)

    def unit(self) -> float:
        """Mean curvature of a weight for one training: means of both diagonals; 1 where all is 0."""
        total = sum(float(self.inputs[n].trace()) * float(self.slopes[n].trace()) for n in self.inputs)
        weights = sum(len(self.inputs[n]) * len(self.slopes[n]) for n in self.inputs)
        return total / weights / self.count if weights and total > 0 else 1.0

    def save(self, path: Path) -> None:
        """Write one safetensors file, which appears whole."""
        inputs = {f"{name}{_A}": value for name, value in self.inputs.items()}
        slopes = {f"{name}{_G}": value for name, value in self.slopes.items()}
        write_tensors(path, inputs | slopes, {"count": self.count})

    @classmethod
    def load(cls, path: Path) -> Blocks:
        """Read what `save` wrote. Raises StoreError."""
        tensors, about = read_tensors(path)
        return cls(
            {n.removesuffix(_A): v for n, v in tensors.items() if n.endswith(_A)},
            {n.removesuffix(_G): v for n, v in tensors.items() if n.endswith(_G)},
            float(about["count"]),
        )


class Kronecker:
    """The penalty on whole weights, around an optimiser's step; see `tutelage.continual.penalty`.

    Args:
        blocks: of the weights that are held.
        center: theta* by name.
        names: of each of the optimiser's tensors, in its order; those without a block are left alone.
        strength: k, before it is divided by the blocks' unit.
        device: of the optimiser's tensors.
        proximal: pull after the step instead of adding to the gradient.
    """

    def __init__(
        self,
        blocks: Blocks,
        center: Mapping[str, Tensor],
        names: list[str],
        strength: float,
        device: torch.device | str = "cpu",
        *,
        proximal: bool,
    ) -> None:
        self._k = strength / blocks.unit()
        self._proximal = proximal
        self._held: dict[int, Any] = {}
        for index, name in enumerate(names):
            if name in blocks.inputs and name in center and blocks.fits(name, center[name]):
                a_II, g_OO = blocks.inputs[name].to(device), blocks.slopes[name].to(device)
                parts = (torch.linalg.eigh(a_II), torch.linalg.eigh(g_OO)) if proximal else (a_II, g_OO)
                self._held[index] = (*parts, center[name].float().to(device))

    @torch.no_grad()
    def before_step(self, index: int, theta: Tensor, lr: float) -> None:
        """Add k G D A to the gradient."""
        if self._proximal or index not in self._held or theta.grad is None:
            return
        a_II, g_OO, center_OI = self._held[index]
        theta.grad.add_(g_OO @ (theta - center_OI) @ a_II, alpha=self._k)

    @torch.no_grad()
    def energy(self, index: int, theta: Tensor) -> Tensor:
        """k / 2 tr(G D A D^T), the penalty's own value on one tensor, fp32 []; of the explicit step alone."""
        if self._proximal or index not in self._held:
            return torch.zeros((), device=theta.device)
        a_II, g_OO, center_OI = self._held[index]
        apart_OI = theta - center_OI
        value: Tensor = (apart_OI * (g_OO @ apart_OI @ a_II)).sum() * (self._k / 2)
        return value

    @torch.no_grad()
    def after_step(self, index: int, theta: Tensor, lr: float) -> None:
        """Pull to the minimum of the penalty plus the distance moved."""
        if not self._proximal or index not in self._held:
            return
        (a_I, u_II), (g_O, v_OO), center_OI = self._held[index]
        turned_OI = v_OO.T @ (theta - center_OI) @ u_II
        turned_OI /= 1 + lr * self._k * torch.outer(g_O.clamp_min(0), a_I.clamp_min(0))
        theta.copy_(center_OI + v_OO @ turned_OI @ u_II.T)
