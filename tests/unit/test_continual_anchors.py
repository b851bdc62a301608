"""Two numbers a weight hold the sum of all earlier quadratics; heads grow, forgetting decays, files round.

Shapes: by name of parameter.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tutelage.continual.anchors import Anchors, grown
from tutelage.continual.importance import Importance
from tutelage.errors import StoreError

pytestmark = pytest.mark.unit

Weights = dict[str, Tensor]
SHAPES = {"body.weight": (4, 3), "body.bias": (4,), "head.weight": (2, 4)}


def draw(seed: int, *, zeros: float = 0.0, positive: bool = False) -> Weights:
    """Random tensors; a share of `zeros` is exactly 0."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, shape in SHAPES.items():
        value = torch.randn(shape, generator=generator)
        value = value.square() if positive else value
        found[name] = torch.where(torch.rand(shape, generator=generator) < zeros, 0.0, value)
    return found


def importance(seed: int) -> Weights:
    return draw(100 + seed, zeros=0.3, positive=True)


def slopes(held: Anchors, theta: Weights) -> Weights:
    """Gradient of 1/2 sum precision (theta - centre)^2."""
    return {name: held.precision[name] * (theta[name] - held.center[name]) for name in theta}


def test_precision_and_centre_have_the_gradient_of_the_sum_of_all_quadratics() -> None:
    """Five trainings, a third of each importance 0; autograd of the sum at random points, in fp64."""
    trainings = [(importance(t), draw(t)) for t in range(5)]
    held = Anchors.empty()
    for one, weights in trainings:
        held = held.add(one, weights)
    assert held.count == 5
    for point in range(3):
        theta = {name: value.double().requires_grad_() for name, value in draw(50 + point).items()}
        total = torch.zeros((), dtype=torch.float64)
        for one, weights in trainings:
            for name, value in theta.items():
                total = total + 0.5 * (one[name] * (value - weights[name]).square()).sum()
        total.backward()  # type: ignore[no-untyped-call]
        ours = slopes(held, {name: value.detach() for name, value in theta.items()})
        for name, value in theta.items():
            assert value.grad is not None
            torch.testing.assert_close(ours[name], value.grad, rtol=1e-5, atol=1e-5)


def test_the_sum_of_quadratics_differs_from_the_merged_one_by_a_constant() -> None:
    trainings = [(importance(t), draw(t)) for t in range(3)]
    held = Anchors.empty()
    for one, weights in trainings:
        held = held.add(one, weights)

    def gap(theta: Weights) -> float:
        each = sum(
            float((one[n].double() * (theta[n] - weights[n]).double().square()).sum())
            for one, weights in trainings
            for n in theta
        )
        merged = sum(
            float((held.precision[n].double() * (theta[n] - held.center[n]).double().square()).sum())
            for n in theta
        )
        return each - merged

    gaps = [gap(draw(70 + point)) for point in range(4)]
    assert gaps[0] > 1
    assert all(one == pytest.approx(other, rel=1e-5) for one, other in pairwise(gaps))


def test_the_order_of_trainings_does_not_matter() -> None:
    a, b = (importance(1), draw(1)), (importance(2), draw(2))
    one, other = Anchors.empty().add(*a).add(*b), Anchors.empty().add(*b).add(*a)
    for name, value in one.precision.items():
        torch.testing.assert_close(other.precision[name], value)
        there = value > 0
        torch.testing.assert_close(other.center[name][there], one.center[name][there])


def test_adding_leaves_what_was_added_to_as_it_was() -> None:
    first = Anchors.empty().add(importance(1), draw(1))
    before = {name: value.clone() for name, value in first.precision.items()}
    first.add(importance(2), draw(2)).decay_to(importance(3), draw(3), 0.5)
    assert first.count == 1
    assert all(torch.equal(first.precision[name], value) for name, value in before.items())


@pytest.mark.parametrize("gamma", [1.0, 0.9, 0.0])
def test_online_precision_decays_and_the_centre_is_where_the_last_training_ended(gamma: float) -> None:
    """F <- gamma F + F_t, by hand for three trainings."""
    f, theta = [importance(t) for t in range(3)], [draw(t) for t in range(3)]
    held = Anchors.empty()
    for one, weights in zip(f, theta, strict=True):
        held = held.decay_to(one, weights, gamma)
    assert held.count == pytest.approx(gamma**2 + gamma + 1)
    for name in SHAPES:
        expected = gamma**2 * f[0][name] + gamma * f[1][name] + f[2][name]
        torch.testing.assert_close(held.precision[name], expected)
        assert torch.equal(held.center[name], theta[2][name])


def test_the_centre_is_a_copy_that_training_on_does_not_move() -> None:
    weights = draw(1)
    for held in (
        Anchors.empty().add(importance(1), weights),
        Anchors.empty().decay_to(importance(1), weights, 1.0),
    ):
        before = held.center["body.bias"].clone()
        weights["body.bias"] += 1
        assert torch.equal(held.center["body.bias"], before)


@pytest.mark.parametrize("how", ["add", "decay_to"])
def test_a_weight_that_was_not_measured_this_time_stays_held(how: str) -> None:
    """A training that froze it says nothing against what is known of it."""
    first = Anchors.empty().add(importance(1), draw(1))
    part = {name: value for name, value in importance(2).items() if name != "body.bias"}
    held = first.add(part, draw(2)) if how == "add" else first.decay_to(part, draw(2), 0.5)
    share = 1.0 if how == "add" else 0.5
    torch.testing.assert_close(held.precision["body.bias"], share * first.precision["body.bias"])


def wider(weights: Weights, rows: int) -> Weights:
    """The same with rows of 5 below the head."""
    head = weights["head.weight"]
    return {**weights, "head.weight": torch.cat([head, torch.full((rows, 4), 5.0)])}


def test_rows_that_a_head_has_gained_are_held_by_the_new_training_alone() -> None:
    first = Anchors.empty().add(importance(1), draw(1))
    held = first.add(wider(importance(2), 3), wider(draw(2), 3))
    precision, center = held.precision["head.weight"], held.center["head.weight"]
    assert precision.shape == (5, 4)
    torch.testing.assert_close(precision[:2], importance(1)["head.weight"] + importance(2)["head.weight"])
    assert precision[2:].tolist() == [[5.0] * 4] * 3
    assert center[2:].tolist() == [[5.0] * 4] * 3


def test_online_rows_that_a_head_has_gained_are_held_by_the_new_training_alone() -> None:
    first = Anchors.empty().add(importance(1), draw(1))
    held = first.decay_to(wider(importance(2), 1), wider(draw(2), 1), 0.5)
    precision = held.precision["head.weight"]
    torch.testing.assert_close(
        precision[:2], 0.5 * first.precision["head.weight"] + importance(2)["head.weight"]
    )
    assert precision[2].tolist() == [5.0] * 4


def test_grown_rows_are_free_and_old_rows_stay_bit_by_bit() -> None:
    old = torch.randn(2, 3)
    new = grown(old, (4, 3))
    assert torch.equal(new[:2], old)
    assert new[2:].tolist() == [[0.0] * 3] * 2
    assert torch.equal(grown(old, (2, 3)), old)
    assert grown(torch.ones(2), (3,)).tolist() == [1.0, 1.0, 0.0]


@pytest.mark.parametrize("shape", [(1, 3), (2, 4), (2,), (2, 3, 1)])
def test_a_tensor_that_did_more_than_grow_rows_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="cannot grow"):
        grown(torch.zeros(2, 3), shape)


def mean_of(tensors: Weights) -> float:
    return float(torch.cat([value.flatten() for value in tensors.values()]).mean())


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e6])
def test_lambda_is_the_mean_curvature_whatever_the_scale_of_importance(scale: float) -> None:
    scaled = {name: scale * value for name, value in importance(1).items()}
    strength = Anchors.empty().add(scaled, draw(1)).strength(3.0)
    assert mean_of(strength) == pytest.approx(3.0, rel=1e-5)
    plain = Anchors.empty().add(importance(1), draw(1)).strength(3.0)
    for name, value in plain.items():
        torch.testing.assert_close(strength[name], value, rtol=1e-5, atol=0)


def test_the_unit_is_of_one_training_so_more_of_them_add_as_much_each() -> None:
    held = Anchors.empty()
    for times in range(1, 5):
        held = held.add(importance(1), draw(1))
        assert held.unit() == pytest.approx(mean_of(importance(1)), rel=1e-5)
        assert mean_of(held.strength(2.0)) == pytest.approx(2.0 * times, rel=1e-5)


def test_the_unit_of_decayed_trainings_counts_what_is_left_of_them() -> None:
    held = Anchors.empty()
    for _ in range(4):
        held = held.decay_to(importance(1), draw(1), 0.5)
    assert held.count == pytest.approx(1.875)
    assert held.unit() == pytest.approx(mean_of(importance(1)), rel=1e-5)


def test_strength_as_it_is_multiplies_by_lambda_alone() -> None:
    held = Anchors.empty().add(importance(1), draw(1)).add(importance(2), draw(2))
    for name, value in held.strength(0.5, normalised=False).items():
        assert torch.equal(value, 0.5 * held.precision[name])


def test_nothing_held_has_no_strength() -> None:
    assert Anchors.empty().strength(10.0) == {}
    assert Anchors.empty().unit() == 1.0
    assert Anchors.empty().count == 0


@pytest.mark.parametrize("trainings", [1, 3])
def test_importance_of_0_everywhere_holds_nothing_and_is_finite(trainings: int) -> None:
    held = Anchors.empty()
    none = {name: torch.zeros(shape) for name, shape in SHAPES.items()}
    for t in range(trainings):
        held = held.add(none, draw(t))
    for name, value in held.strength(1000.0).items():
        assert value.count_nonzero() == 0
        assert bool(held.center[name].isfinite().all())


def test_saved_anchors_come_back_bit_by_bit(tmp_path: Path) -> None:
    first = Anchors.empty().decay_to(importance(1), draw(1), 0.9)
    held = first.decay_to(wider(importance(2), 1), wider(draw(2), 1), 0.9)
    held.save(tmp_path / "anchors.safetensors")
    again = Anchors.load(tmp_path / "anchors.safetensors")
    assert again.count == held.count == 1.9
    for part, other in ((again.precision, held.precision), (again.center, held.center)):
        assert part.keys() == other.keys()
        assert all(torch.equal(part[name], value) for name, value in other.items())
    assert [path.name for path in tmp_path.iterdir()] == ["anchors.safetensors"]


def test_empty_anchors_can_be_saved(tmp_path: Path) -> None:
    Anchors.empty().save(tmp_path / "none.safetensors")
    again = Anchors.load(tmp_path / "none.safetensors")
    assert (again.precision, again.center, again.count) == ({}, {}, 0.0)


@pytest.mark.parametrize("damage", ["missing", "cut", "other"])
def test_a_file_of_anchors_that_cannot_be_read_is_said(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "anchors.safetensors"
    if damage == "cut":
        Anchors.empty().add(importance(1), draw(1)).save(path)
        path.write_bytes(path.read_bytes()[:100])
    if damage == "other":
        Importance(importance(1), 5, {"kind": "mas"}).save(path)
    with pytest.raises(StoreError, match=r"anchors.safetensors") as found:
        Anchors.load(path)
    assert found.value.fix
