"""Holding weights at the optimiser's step: on the fp32 weights and gradients it works on, whatever they are.

A rule looks at an optimiser's tensors just before and just after its step. Under DeepSpeed these are the fp32
shards of the worker (ZeRO 0 to 3), with gradients that are already reduced, unscaled and clipped. So a rule
needs no loss scale, no world size and no clipping, and theta - theta* is taken from masters: in bf16 it would
round to nothing.

    explicit   gradient <- gradient + k (theta - theta*)
    proximal   theta <- (theta + lr k theta*) / (1 + lr k)      after the step

with k = lambda F. The explicit step diverges under plain SGD from lr k = 2 on, and under Adam it swings about
theta* by about lr, however large lambda is. The proximal step is the exact minimum of the penalty plus the
distance moved, stable for any lambda.

Tensors: one for each tensor of the optimiser, in its shape, fp32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

Weights = Sequence[Tensor]


class StepRule(Protocol):
    """What is done around an optimiser's step."""

    def before_step(self, index: int, theta: Tensor, lr: float) -> None:
        """`theta.grad` is there; it may be changed. `index`: which of the optimiser's tensors this is."""
        ...

    def after_step(self, index: int, theta: Tensor, lr: float) -> None:
        """`theta` has moved; it may be moved further."""
        ...


class Quadratic:
    """1/2 sum k (theta - theta*)^2.

    Args:
        strength: k of each tensor.
        center: theta* of each tensor.
        proximal: pull after the step instead of adding to the gradient.
    """

    def __init__(self, strength: Weights, center: Weights, *, proximal: bool = False) -> None:
        self._strength, self._center, self._proximal = list(strength), list(center), proximal

    @torch.no_grad()
    def before_step(self, index: int, theta: Tensor, lr: float) -> None:
        """Add the penalty's gradient."""
        if not self._proximal and theta.grad is not None:
            theta.grad.addcmul_(theta - self._center[index], self._strength[index])

    @torch.no_grad()
    def energy(self, index: int, theta: Tensor) -> Tensor:
        """The penalty's own value on one tensor, fp32 [], in units of the loss."""
        return ((theta - self._center[index]).square() * self._strength[index]).sum() / 2

    @torch.no_grad()
    def after_step(self, index: int, theta: Tensor, lr: float) -> None:
        """Pull the weights towards their centre."""
        if self._proximal:
            k = self._strength[index] * lr
            theta.addcmul_(k, self._center[index]).div_(k.add_(1))


class PathIntegral:
    """Synaptic intelligence (Zenke et al. 2017, arXiv:1703.04200): what each weight gave the loss's fall.

    Along the training omega <- omega - gradient * step, with the gradient of the data alone: attach it before
    a penalty. Afterwards Omega = max(omega, 0) / ((theta_end - theta_start)^2 + xi).
    """

    def __init__(self, thetas: Weights) -> None:
        self.start = [theta.detach().clone() for theta in thetas]
        self.omega = [torch.zeros_like(theta, dtype=torch.float32) for theta in thetas]
        self._gradient: list[Tensor | None] = [None] * len(self.omega)
        self._before: list[Tensor | None] = [None] * len(self.omega)

    @torch.no_grad()
    def before_step(self, index: int, theta: Tensor, lr: float) -> None:
        """Remember gradient and weights."""
        self._gradient[index] = None if theta.grad is None else theta.grad.detach().clone()
        self._before[index] = theta.detach().clone()

    @torch.no_grad()
    def after_step(self, index: int, theta: Tensor, lr: float) -> None:
        """Add what the step gave."""
        gradient, before = self._gradient[index], self._before[index]
        if gradient is not None and before is not None:
            self.omega[index].addcmul_(gradient, theta - before, value=-1)

    def importance(self, thetas: Weights, xi: float = 1e-3) -> list[Tensor]:
        """Omega of each tensor."""
        return [
            omega.clamp_min(0) / ((theta.detach() - start).square() + xi)
            for omega, theta, start in zip(self.omega, thetas, self.start, strict=True)
        ]


def attach(
    optimizer: torch.optim.Optimizer, rules: Sequence[StepRule], tensors: Weights | None = None
) -> Callable[[], None]:
    """Put the rules around every step of the optimiser; call the result to take them off.

    The rules are asked in their order, before a step and after it. A path integral comes first: then it sees
    the gradient of the data alone, and the step of the optimiser alone.

    Args:
        optimizer: any torch optimiser.
        rules: asked for every tensor with a gradient.
        tensors: the optimiser's tensors in the order that the rules count them; those of its groups when
            None. ZeRO 3 hands them to the optimiser one by one.
    """
    known = list(tensors) if tensors is not None else [p for g in optimizer.param_groups for p in g["params"]]
    index = {id(tensor): number for number, tensor in enumerate(known)}

    def around(which: str) -> Callable[..., None]:
        ordered = list(rules)

        def hook(optim: Any, args: Any, kwargs: Any) -> None:
            for group in optim.param_groups:
                for theta in group["params"]:
                    if theta.grad is None:
                        continue
                    for rule in ordered:
                        getattr(rule, which)(index[id(theta)], theta, float(group["lr"]))

        return hook

    handles = [
        optimizer.register_step_pre_hook(around("before_step")),
        optimizer.register_step_post_hook(around("after_step")),
    ]

    def detach() -> None:
        for handle in handles:
            handle.remove()

    return detach
