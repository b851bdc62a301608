"""Kronecker blocks: exact for one input, additive, and both steps against what they stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tutelage.continual.fisher import Scored, fisher
from tutelage.continual.importance import Importance
from tutelage.continual.kfac import Blocks, Kronecker, split_sums
from tutelage.continual.penalty import attach
from tutelage.objectives.competing import own_classes

pytestmark = pytest.mark.unit


def measured(inputs: torch.Tensor) -> tuple[Any, Importance]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))
    batches = [(len(part), part) for part in inputs.split(2)]
    return model, fisher(model, batches, lambda x: Scored(model(x)), blocks=True)


def test_for_one_input_the_block_is_the_fisher_information_itself() -> None:
    model, found = measured(torch.randn(1, 3, generator=torch.Generator().manual_seed(1)))
    diagonals, sums = split_sums(found.sums)
    blocks = Blocks.of(sums, found.examples)
    for name in ("0.weight", "2.weight"):
        whole = torch.outer(blocks.slopes[name].diagonal(), blocks.inputs[name].diagonal())
        torch.testing.assert_close(whole, diagonals[name], rtol=1e-4, atol=1e-7)
    assert set(diagonals) == {name for name, _ in model.named_parameters()}


def test_parts_add_up_to_the_whole() -> None:
    inputs = torch.randn(5, 3, generator=torch.Generator().manual_seed(2))
    _, whole = measured(inputs)
    _, one = measured(inputs[:2])
    _, other = measured(inputs[2:])
    for name, value in (one + other).sums.items():
        torch.testing.assert_close(value, whole.sums[name], rtol=1e-4, atol=1e-6)


def blocks_of(rows: int, columns: int, seed: int = 3) -> Blocks:
    generator = torch.Generator().manual_seed(seed)
    a, g = torch.randn(columns, 9, generator=generator), torch.randn(rows, 9, generator=generator)
    return Blocks({"w": a @ a.T / 9}, {"w": g @ g.T / 9})


def test_the_explicit_step_has_the_gradient_of_the_quadratic_form() -> None:
    blocks, center = blocks_of(3, 4), torch.randn(3, 4)
    theta = nn.Parameter(torch.randn(3, 4))
    theta.grad = torch.zeros(3, 4)
    rule = Kronecker(blocks, {"w": center}, ["w"], 2.0, proximal=False)
    rule.before_step(0, theta, 0.1)
    free = theta.detach().clone().requires_grad_()
    apart = free - center
    form = (blocks.slopes["w"] @ apart @ blocks.inputs["w"] * apart).sum()
    (truth,) = torch.autograd.grad(0.5 * 2.0 / blocks.unit() * form, free)
    torch.testing.assert_close(theta.grad, truth)


def test_its_value_has_the_gradient_that_the_explicit_step_adds() -> None:
    blocks, generator = blocks_of(2, 3), torch.Generator().manual_seed(6)
    center, theta = (torch.randn(2, 3, generator=generator) for _ in range(2))
    rule = Kronecker(blocks, {"w": center}, ["w"], 2.0, proximal=False)
    theta.grad = torch.zeros(2, 3)
    rule.before_step(0, theta, 0.1)
    # A quadratic form is half of its argument times its gradient.
    torch.testing.assert_close(rule.energy(0, theta), ((theta - center) * theta.grad).sum() / 2)


@pytest.mark.parametrize("strength", [0.5, 1e6])
def test_the_proximal_step_solves_its_linear_system(strength: float) -> None:
    blocks, center = blocks_of(3, 4), torch.randn(3, 4)
    theta = nn.Parameter(torch.randn(3, 4))
    moved, rate = theta.detach().clone(), 0.1
    Kronecker(blocks, {"w": center}, ["w"], strength, proximal=True).after_step(0, theta, rate)
    k = strength / blocks.unit()
    system = torch.eye(12) + rate * k * torch.kron(blocks.slopes["w"], blocks.inputs["w"])
    truth = torch.linalg.solve(system, (moved - center).flatten()).reshape(3, 4) + center
    torch.testing.assert_close(theta.detach(), truth, rtol=1e-3, atol=1e-4)


def test_it_holds_what_matters_and_frees_what_does_not_under_an_optimiser() -> None:
    a = torch.diag(torch.tensor([1.0, 0.0]))
    blocks = Blocks({"w": a}, {"w": torch.eye(2)})
    theta = nn.Parameter(torch.zeros(2, 2))
    optimizer = torch.optim.SGD([theta], lr=0.1)
    attach(optimizer, [Kronecker(blocks, {"w": torch.zeros(2, 2)}, ["w"], 1e4, proximal=True)])
    for _ in range(10):
        optimizer.zero_grad()
        theta.sum().backward()
        optimizer.step()
    assert float(theta.detach()[:, 0].abs().max()) < 1e-3
    torch.testing.assert_close(theta.detach()[:, 1], torch.full((2,), -1.0))


def test_blocks_come_back_from_their_file_and_fade(tmp_path: Path) -> None:
    one, other = blocks_of(3, 4), blocks_of(3, 4, seed=5)
    one.save(tmp_path / "blocks.safetensors")
    again = Blocks.load(tmp_path / "blocks.safetensors")
    assert torch.equal(again.inputs["w"], one.inputs["w"])
    assert torch.equal(again.slopes["w"], one.slopes["w"])
    both = one.after(other, 0.5)
    torch.testing.assert_close(both.slopes["w"], 0.5 * one.slopes["w"] + other.slopes["w"])
    grown = blocks_of(5, 4)
    assert one.after(grown, 0.5).slopes["w"].shape == (5, 5)  # another head begins anew


def test_padding_takes_no_part_in_a_block() -> None:
    """Rows without a slope say nothing, however many there are."""
    torch.manual_seed(4)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))

    def sums(padded: int) -> Importance:
        inputs = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(5))
        inputs = torch.cat([inputs, torch.ones(2, padded, 3)], 1)
        return fisher(model, [(2, inputs)], lambda x: Scored(model(x)[:, 0]), blocks=True)

    bare, wide = (Blocks.of(split_sums(sums(padded).sums)[1], 2) for padded in (0, 30))
    for name in ("0.weight", "2.weight"):
        torch.testing.assert_close(wide.inputs[name], bare.inputs[name])
        torch.testing.assert_close(wide.slopes[name], bare.slopes[name])


def test_blocks_count_trainings_so_that_lambda_means_the_same_after_each() -> None:
    one = blocks_of(3, 4)
    again = one.after(one, 1.0)
    assert again.count == 2
    assert again.unit() == pytest.approx(one.unit())


def test_classes_that_are_closed_take_no_row_from_a_block() -> None:
    """Where the first direction of the labels is one of a closed class, its rows count by the others."""
    torch.manual_seed(4)
    model, inputs = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4)), torch.randn(6, 3)
    labels = torch.full((6,), 3)

    def blocks(groups: tuple[int, ...]) -> Blocks:
        score = lambda x: Scored(own_classes(model(x), labels, groups))  # noqa: E731
        found = fisher(model, [(6, inputs)], score, blocks=True)
        return Blocks.of(split_sums(found.sums)[1], found.examples)

    closed, whole = blocks((0, 0, 1, 1)), blocks(())
    for name in ("0.weight", "2.weight"):
        torch.testing.assert_close(closed.inputs[name], whole.inputs[name])
        assert float(closed.slopes[name].trace()) > 0
