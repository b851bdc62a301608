"""Rules around an optimiser's step: the gradient of the quadratic, the proximal pull, path integrals."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tutelage.continual.penalty import PathIntegral, Quadratic, attach

pytestmark = pytest.mark.unit

Optimizers = dict[str, Callable[[list[Tensor]], torch.optim.Optimizer]]
OPTIMIZERS: Optimizers = {
    "sgd": lambda thetas: torch.optim.SGD(thetas, lr=0.05),
    "momentum": lambda thetas: torch.optim.SGD(thetas, lr=0.05, momentum=0.9),
    "adamw": lambda thetas: torch.optim.AdamW(thetas, lr=0.05, weight_decay=0.1),
}


def tensors(seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(3, 2, generator=generator), torch.randn(4, generator=generator)]


def weights(seed: int = 1) -> list[Tensor]:
    return [value.requires_grad_() for value in tensors(seed)]


STRENGTH, CENTER, GOAL = [value.square() for value in tensors(10)], tensors(11), tensors(12)


def data_loss(thetas: list[Tensor]) -> Tensor:
    return torch.stack([(t - g).pow(4).sum() for t, g in zip(thetas, GOAL, strict=True)]).sum()


def penalty(thetas: list[Tensor]) -> Tensor:
    """(1/2) sum k (theta - theta*)^2, in words of autograd."""
    parts = zip(thetas, STRENGTH, CENTER, strict=True)
    return torch.stack([0.5 * (k * (t - c).square()).sum() for t, k, c in parts]).sum()


def descend(
    optimizer: torch.optim.Optimizer, thetas: list[Tensor], loss: Callable[[list[Tensor]], Tensor], steps: int
) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        loss(thetas).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_explicit_step_is_that_of_the_penalty_in_the_loss(name: str) -> None:
    """With the half: without it weights differ in the first step."""
    ours, truth = weights(), weights()
    optimizer = OPTIMIZERS[name](ours)
    attach(optimizer, [Quadratic(STRENGTH, CENTER)])
    descend(optimizer, ours, data_loss, 10)
    descend(OPTIMIZERS[name](truth), truth, lambda t: data_loss(t) + penalty(t), 10)
    for one, other in zip(ours, truth, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def single(lr: float, k: float, proximal: bool, steps: int) -> float:
    """|theta - theta*| after steps of SGD on the penalty alone, from a distance of 1."""
    theta = torch.tensor([3.0], requires_grad=True)
    optimizer = torch.optim.SGD([theta], lr=lr)
    attach(optimizer, [Quadratic([torch.tensor([k])], [torch.tensor([2.0])], proximal=proximal)])
    descend(optimizer, [theta], lambda thetas: 0.0 * thetas[0].sum(), steps)
    return abs(theta.item() - 2.0)


@pytest.mark.parametrize(("k", "factor"), [(1.0, 0.9), (15.0, 0.5), (25.0, 1.5), (40.0, 3.0)])
def test_the_explicit_step_multiplies_the_distance_and_diverges_from_lr_k_2_on(
    k: float, factor: float
) -> None:
    """|1 - lr k| a step, lr = 0.1."""
    assert single(0.1, k, proximal=False, steps=10) == pytest.approx(factor**10, rel=1e-3)


@pytest.mark.parametrize("k", [0.0, 1.0, 20.0, 1e4, 1e12, 1e30])
def test_the_proximal_step_shrinks_the_distance_for_any_strength(k: float) -> None:
    """1 / (1 + lr k) a step."""
    assert single(0.1, k, proximal=True, steps=1) == pytest.approx(1 / (1 + 0.1 * k), rel=1e-5, abs=3e-7)
    assert single(0.1, k, proximal=True, steps=20) == pytest.approx((1 + 0.1 * k) ** -20, rel=1e-4, abs=3e-7)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_proximal_step_pulls_what_the_optimiser_alone_would_have_reached(name: str) -> None:
    """(theta + lr k theta*) / (1 + lr k)."""
    ours, plain = weights(), weights()
    optimizer = OPTIMIZERS[name](ours)
    attach(optimizer, [Quadratic(STRENGTH, CENTER, proximal=True)])
    descend(optimizer, ours, data_loss, 1)
    descend(OPTIMIZERS[name](plain), plain, data_loss, 1)
    for one, alone, k, center in zip(ours, plain, STRENGTH, CENTER, strict=True):
        torch.testing.assert_close(one, (alone + 0.05 * k * center) / (1 + 0.05 * k))


def test_the_proximal_step_goes_by_the_rate_of_its_group_and_of_this_step() -> None:
    first, second = torch.ones(1, requires_grad=True), torch.ones(1, requires_grad=True)
    optimizer = torch.optim.SGD([{"params": [first], "lr": 1.0}, {"params": [second], "lr": 3.0}])
    attach(optimizer, [Quadratic([torch.ones(1)] * 2, [torch.zeros(1)] * 2, proximal=True)])
    descend(optimizer, [], lambda _: 0 * (first + second).sum(), 1)
    assert [first.item(), second.item()] == [0.5, 0.25]
    optimizer.param_groups[0]["lr"] = 0.0
    descend(optimizer, [], lambda _: 0 * (first + second).sum(), 1)
    assert first.item() == 0.5


@pytest.mark.parametrize("proximal", [False, True])
def test_strength_and_centre_are_not_changed_by_a_step(proximal: bool) -> None:
    strength, center = [k.clone() for k in STRENGTH], [c.clone() for c in CENTER]
    ours = weights()
    optimizer = OPTIMIZERS["sgd"](ours)
    attach(optimizer, [Quadratic(strength, center, proximal=proximal)])
    descend(optimizer, ours, data_loss, 3)
    assert all(torch.equal(a, b) for a, b in zip(strength + center, STRENGTH + CENTER, strict=True))


def by_hand(xi: float, steps: int, lr: float, pull: Callable[[Tensor, int], Tensor]) -> list[Tensor]:
    """Synaptic intelligence in a plain loop of SGD; `pull` is the penalty's gradient."""
    thetas = [value.double() for value in tensors(1)]
    start = [theta.clone() for theta in thetas]
    omega = [torch.zeros_like(theta) for theta in thetas]
    for _ in range(steps):
        for i, theta in enumerate(thetas):
            gradient = 4 * (theta - GOAL[i]) ** 3
            new = theta - lr * (gradient + pull(theta, i))
            omega[i] += -gradient * (new - theta)
            thetas[i] = new
    return [o.clamp_min(0) / ((t - s) ** 2 + xi) for o, t, s in zip(omega, thetas, start, strict=True)]


@pytest.mark.parametrize("held", [False, True])
def test_the_path_integral_is_that_of_a_plain_loop(held: bool) -> None:
    """Its gradient is the data's alone, also where a penalty stands behind it and moves the weights."""
    ours = weights()
    path = PathIntegral(ours)
    optimizer = torch.optim.SGD(ours, lr=0.01)
    attach(optimizer, [path, Quadratic(STRENGTH, CENTER)] if held else [path])
    descend(optimizer, ours, data_loss, 8)

    def pull(theta: Tensor, i: int) -> Tensor:
        return STRENGTH[i] * (theta - CENTER[i]) * held

    truth = by_hand(0.01, 8, 0.01, pull)
    for one, other in zip(path.importance(ours, xi=0.01), truth, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other.float(), rtol=1e-4, atol=1e-5)


def test_without_a_penalty_the_path_adds_up_to_the_fall_of_the_loss() -> None:
    """In the limit of small steps, to 1%."""
    ours = weights()
    before, path = data_loss(ours).item(), PathIntegral(ours)
    optimizer = torch.optim.SGD(ours, lr=1e-5)
    attach(optimizer, [path])
    descend(optimizer, ours, data_loss, 300)
    fall = before - data_loss(ours).item()
    assert fall > 0
    assert sum(float(omega.sum()) for omega in path.omega) == pytest.approx(fall, rel=1e-2)


def test_a_weight_that_did_not_move_has_finite_importance_0() -> None:
    ours = weights()
    path = PathIntegral(ours)
    assert all(one.count_nonzero() == 0 for one in path.importance(ours))


@pytest.mark.parametrize("proximal", [False, True])
def test_tensors_without_a_gradient_are_left_alone(proximal: bool) -> None:
    used, unused = weights()
    still = unused.detach().clone()
    optimizer = torch.optim.AdamW([unused, used], lr=0.1)
    path = PathIntegral([unused, used])
    attach(
        optimizer,
        [
            path,
            Quadratic(
                [torch.ones(4), torch.ones(3, 2)], [torch.zeros(4), torch.zeros(3, 2)], proximal=proximal
            ),
        ],
    )
    descend(optimizer, [used], lambda thetas: thetas[0].square().sum(), 3)
    assert torch.equal(unused, still)
    assert path.omega[0].count_nonzero() == 0
    assert float(path.omega[1].sum()) > 0


def test_rules_taken_off_are_heard_no_more() -> None:
    ours, plain = weights(), weights()
    optimizer = OPTIMIZERS["sgd"](ours)
    attach(optimizer, [Quadratic(STRENGTH, CENTER), Quadratic(STRENGTH, CENTER, proximal=True)])()
    descend(optimizer, ours, data_loss, 2)
    descend(OPTIMIZERS["sgd"](plain), plain, data_loss, 2)
    assert all(torch.equal(one, other) for one, other in zip(ours, plain, strict=True))


def test_rules_are_asked_in_their_order_before_and_after() -> None:
    told: list[Any] = []

    class Spy:
        def __init__(self, name: str) -> None:
            self.name = name

        def before_step(self, index: int, theta: Tensor, lr: float) -> None:
            told.append((self.name, "before", index, lr))

        def after_step(self, index: int, theta: Tensor, lr: float) -> None:
            told.append((self.name, "after", index, lr))

    ours = weights()
    attach(OPTIMIZERS["sgd"](ours), [])
    optimizer = OPTIMIZERS["sgd"](ours)
    attach(optimizer, [Spy("a"), Spy("b")], tensors=[ours[1], ours[0]])
    descend(optimizer, ours, data_loss, 1)
    each = [(name, index) for index in (1, 0) for name in ("a", "b")]
    assert told == [(n, when, i, 0.05) for when in ("before", "after") for n, i in each]


def test_a_stiff_penalty_under_adamw_keeps_weights_at_their_centre() -> None:
    ours = [center.clone().requires_grad_() for center in CENTER]
    optimizer = torch.optim.AdamW(ours, lr=1e-2, weight_decay=0.0)
    stiff = [torch.full_like(k, 1e6) for k in STRENGTH]
    attach(optimizer, [Quadratic(stiff, CENTER, proximal=True)])
    descend(optimizer, ours, data_loss, 20)
    away = max((t - c).abs().max().item() for t, c in zip(ours, CENTER, strict=True))
    assert away < 1e-5
    assert math.isfinite(away)
