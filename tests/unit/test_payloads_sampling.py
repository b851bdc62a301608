"""Draws are an unbiased target: their mean gradient is that of the exact mixture, whoever draws them.

Means over thousands of positions with fixed seeds are compared with the exact gradient in units of their own
standard error; 5 is beyond chance for the few hundred numbers looked at.

Shapes: N examples, P positions, V classes or vocabulary, K teachers.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.unit.payload_samples import digests, kl_gradient, request, signal
from tutelage.config.objectives import Confidence, Uniform
from tutelage.objectives import Dense, Draws, Signal, build_combiner, heard
from tutelage.signals.allocation import allocate, uniforms
from tutelage.signals.payloads import encode
from tutelage.signals.spec import PayloadSpec

pytestmark = pytest.mark.unit

V, DRAWS, TEMPERATURE = 24, 12, 2.0
EXAMPLES, LENGTH = 40, 60
SHARES = {1: (1.0,), 3: (1 / 6, 1 / 2, 1 / 3), 5: (0.37, 0.05, 0.21, 0.3, 0.07)}


def teachers(count: int) -> Tensor:
    """Logits [K, P, V]. Each teacher prefers labels of its own, so that a bias does not average out."""
    generator = torch.Generator().manual_seed(count)
    own_KV = 3 * torch.randn(count, 1, V, generator=generator)
    return own_KV + 1.5 * torch.randn(count, EXAMPLES * LENGTH, V, generator=generator)


def student() -> Tensor:
    return torch.randn(EXAMPLES * LENGTH, V, generator=torch.Generator().manual_seed(99))


def spec(member: int, *, mixture: bool) -> PayloadSpec:
    name = "m" if mixture else ""
    seed = 7 if mixture else member
    return PayloadSpec("sampled", V, "fp32", DRAWS, TEMPERATURE, seed, name, member if mixture else 0)


def drawn(logits_KPV: Tensor, *, mixture: bool, cover: dict[int, int] | None = None) -> list[Signal]:
    """Each teacher's signal. `cover`: teacher -> how many positions of each example it covers; 0 is lost."""
    count, found = len(logits_KPV), []
    for k in range(count):
        rows = (cover or {}).get(k, LENGTH)
        asked = request(spec(k, mixture=mixture), [LENGTH] * EXAMPLES, SHARES[count])
        values = logits_KPV[k].view(EXAMPLES, LENGTH, V)[:, :rows].reshape(-1, V)
        packet = encode(asked.spec, values, np.full(EXAMPLES, rows, np.int32), asked) if rows else None
        found.append(signal(asked, packet))
    return found


def worst(gaps_PV: Tensor) -> float:
    """The largest mean over positions in standard errors, over labels."""
    error_V = gaps_PV.double().std(0) / len(gaps_PV) ** 0.5
    return float((gaps_PV.double().mean(0).abs() / error_V.clamp(min=1e-12)).max())


def fixed(count: int) -> Tensor:
    return torch.tensor(SHARES[count])[:, None].expand(-1, EXAMPLES * LENGTH)


def gaps(logits_KPV: Tensor, signals: list[Signal], weights_KP: Tensor) -> Tensor:
    """Gradient on draws less the exact gradient [P, V]."""
    dense = [Dense(logits_PV, one.known_P) for logits_PV, one in zip(logits_KPV, signals, strict=True)]
    weights_KP = heard(weights_KP, signals)
    found = kl_gradient(student(), signals, weights_KP, TEMPERATURE)[1]
    return found - kl_gradient(student(), dense, weights_KP, TEMPERATURE)[1]


@pytest.mark.parametrize("mixture", [True, False], ids=["mixture", "own draws"])
@pytest.mark.parametrize("count", SHARES)
def test_the_mean_gradient_is_the_exact_one(count: int, mixture: bool) -> None:
    logits_KPV = teachers(count)
    found = gaps(logits_KPV, drawn(logits_KPV, mixture=mixture), fixed(count))
    assert 0.5 < worst(found) < 5


@pytest.mark.parametrize("count", SHARES)
def test_the_mean_target_is_the_mixture_of_the_teachers(count: int) -> None:
    logits_KPV = teachers(count)
    target_PV = torch.zeros(EXAMPLES * LENGTH, V)
    for one in drawn(logits_KPV, mixture=True):
        assert isinstance(one, Draws)
        target_PV.index_put_((one.positions_R, one.ids_R), one.shares_R, accumulate=True)
    torch.testing.assert_close(target_PV.sum(-1), torch.ones(EXAMPLES * LENGTH))
    exact_PV = (torch.softmax(logits_KPV / TEMPERATURE, -1) * fixed(count)[..., None]).sum(0)
    assert 0.5 < worst(target_PV - exact_PV) < 5


def test_the_test_sees_a_bias_of_a_few_percent() -> None:
    """Weights that are off by a tenth, or draws at another temperature, are far outside the bound."""
    logits_KPV = teachers(3)
    signals = drawn(logits_KPV, mixture=True)
    off = torch.tensor([[1 / 6 - 0.05], [1 / 2 + 0.05], [1 / 3]]).expand(-1, EXAMPLES * LENGTH)
    assert worst(gaps(logits_KPV, signals, off)) > 5
    assert worst(gaps(logits_KPV * 1.1, signals, fixed(3))) > 5


@pytest.mark.parametrize("count", [3, 5])
def test_weights_that_come_with_the_replies_stay_unbiased_on_each_teachers_own_draws(count: int) -> None:
    """The confidence combiner weighs by the entropy that travels beside the draws, not by the draws."""
    logits_KPV = teachers(count)
    signals = drawn(logits_KPV, mixture=False)
    rule = build_combiner(Confidence(type="confidence"), [f"t{k}" for k in range(count)])
    examples_P = torch.arange(EXAMPLES).repeat_interleave(LENGTH)
    weights_KP = rule.weights(signals, [""] * EXAMPLES, examples_P)
    exact_KP = rule.weights([Dense(one) for one in logits_KPV], [""] * EXAMPLES, examples_P)
    assert float(weights_KP.std(1).min()) > 0.02
    torch.testing.assert_close(weights_KP, exact_KP, atol=1e-3, rtol=0)
    assert 0.5 < worst(gaps(logits_KPV, signals, weights_KP)) < 5


@pytest.mark.parametrize("rows", [0, 20], ids=["lost", "covers a third"])
@pytest.mark.parametrize("count", [3, 5])
def test_without_one_teachers_draws_the_mean_gradient_is_that_of_the_others(count: int, rows: int) -> None:
    """Remaining draws are scaled by what their teachers were to make of the whole."""
    logits_KPV = teachers(count)
    signals = drawn(logits_KPV, mixture=True, cover={0: rows})
    assert 0.5 < worst(gaps(logits_KPV, signals, fixed(count))) < 5


def test_positions_whose_draws_are_all_missing_have_loss_0_and_gradient_0() -> None:
    logits_KPV = teachers(3)
    signals = drawn(logits_KPV, mixture=True, cover={0: 0, 1: 0, 2: 30})
    loss_P, slope_PV = kl_gradient(student(), signals, heard(fixed(3), signals), TEMPERATURE)
    without = torch.arange(LENGTH).repeat(EXAMPLES) >= 30
    assert loss_P[without].abs().max() == 0
    assert slope_PV[without].abs().max() == 0
    assert (loss_P[~without] > 0).all()
    assert torch.isfinite(slope_PV).all()


def test_the_bytes_of_a_mixture_do_not_grow_with_the_teachers() -> None:
    for count in SHARES:
        signals = drawn(teachers(count), mixture=True)
        assert sum(len(one.ids_R) for one in signals if isinstance(one, Draws)) == DRAWS * EXAMPLES * LENGTH


def test_draws_vary_less_than_independent_ones_and_more_teachers_do_not_make_them_worse() -> None:
    """Squared error of the target, summed over labels; independent draws have sum p (1 - p) / N."""
    error = {}
    for count in SHARES:
        logits_KPV = teachers(count)
        target_PV = torch.zeros(EXAMPLES * LENGTH, V)
        for one in drawn(logits_KPV, mixture=True):
            assert isinstance(one, Draws)
            target_PV.index_put_((one.positions_R, one.ids_R), one.shares_R, accumulate=True)
        exact_PV = (torch.softmax(logits_KPV / TEMPERATURE, -1) * fixed(count)[..., None]).sum(0)
        independent = (exact_PV * (1 - exact_PV)).sum(-1).mean() / DRAWS
        error[count] = float((target_PV - exact_PV).square().sum(-1).mean() / independent)
    assert error[1] < 0.5
    assert max(error.values()) < 0.8, error


def test_own_draws_of_a_uniform_mean_match_a_mixture_in_the_mean() -> None:
    """Both are unbiased for one exact gradient, so their means agree within their errors."""
    logits_KPV = teachers(3)
    rule = build_combiner(Uniform(), ["a", "b", "c"])
    weights_KP = rule.weights([], [""] * EXAMPLES, torch.arange(EXAMPLES).repeat_interleave(LENGTH))
    assert 0.5 < worst(gaps(logits_KPV, drawn(logits_KPV, mixture=False), weights_KP)) < 5


# Allocation


@pytest.mark.parametrize("draws", [1, 12, 50])
@pytest.mark.parametrize("count", SHARES)
def test_each_positions_draws_are_shared_out_in_full_and_in_proportion(count: int, draws: int) -> None:
    lengths_N = np.full(EXAMPLES, 200, np.int32)
    shares_NK = np.array([SHARES[count]] * EXAMPLES)
    counts_RK = allocate(3, digests(EXAMPLES), lengths_N, shares_NK, draws)
    assert (counts_RK.sum(1) == draws).all()
    due_K = draws * np.array(SHARES[count])
    assert (np.abs(counts_RK - due_K) < 1 + 1e-9).all()
    error_K = np.maximum(counts_RK.std(0), 1e-9) / len(counts_RK) ** 0.5
    assert (np.abs(counts_RK.mean(0) - due_K) < 5 * error_K + 1e-9).all()


def test_a_teacher_of_share_0_makes_no_draw_and_scale_does_not_matter() -> None:
    lengths_N = np.full(4, 50, np.int32)
    counts_RK = allocate(0, digests(4), lengths_N, np.array([[0.0, 2.0, 0.0, 6.0, 0.0]] * 4), 12)
    assert counts_RK[:, [0, 2, 4]].max() == 0
    assert counts_RK.sum(1).tolist() == [12] * 200
    assert counts_RK[:, 1].mean() == 3


def test_an_allocation_does_not_depend_on_neighbours_or_on_how_many_rows_are_covered() -> None:
    shares_NK = np.random.default_rng(0).dirichlet([1, 1, 1], 4)
    whole = allocate(5, digests(4), np.array([9, 2, 7, 1], np.int32), shares_NK, 12)
    part = allocate(5, digests(4)[2:3], np.array([4], np.int32), shares_NK[2:3], 12)
    np.testing.assert_array_equal(whole[11:15], part)


def test_uniform_numbers_are_of_their_purpose_seed_and_example_alone() -> None:
    base = uniforms(1, "draws", b"a", 5)
    assert uniforms(1, "draws", b"a", 3).tolist() == base[:3].tolist()
    others = [
        uniforms(2, "draws", b"a", 5),
        uniforms(1, "allocation", b"a", 5),
        uniforms(1, "draws", b"b", 5),
    ]
    assert all(set(base).isdisjoint(other) for other in others)
    many = uniforms(0, "draws", b"many", 20_000)
    assert 0 <= many.min() < 1e-3 < 1 - 1e-3 < many.max() < 1
    assert many.mean() == pytest.approx(0.5, abs=5 * 12**-0.5 / 20_000**0.5)


@pytest.mark.parametrize("bad", [[0.0, 0.0], [-1.0, 2.0], [np.nan, 1.0], [np.inf, 1.0]])
def test_shares_that_are_no_shares_are_an_error(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="shares must be"):
        allocate(0, digests(1), np.array([1], np.int32), np.array([bad]), 12)


def test_shares_for_other_examples_are_an_error() -> None:
    with pytest.raises(ValueError, match="for 2 examples"):
        allocate(0, digests(2), np.array([1, 1], np.int32), np.ones((1, 3)), 12)


def test_a_mixture_without_shares_or_digests_is_an_error() -> None:
    from tutelage.signals.payloads import signal_of

    asked = request(spec(0, mixture=True), [1])
    values = torch.zeros(1, V)
    packet = encode(asked.spec, values, np.array([1], np.int32), asked)
    with pytest.raises(ValueError, match="need the examples' digests and the shares"):
        signal_of(asked.spec, packet, values, torch.tensor([0]), lambda v, n: Dense(v))
    wrong = np.array([[1.0, 0.0, 0.0]], np.float32)
    with pytest.raises(ValueError, match="where the shares of this batch give 12"):
        signal_of(
            asked.spec,
            packet,
            values,
            torch.tensor([0]),
            lambda v, n: Dense(v),
            examples=asked.examples,
            shares_NK=wrong,
        )
    asked_bare = request(spec(0, mixture=False), [1])
    with pytest.raises(ValueError, match="need each teacher's shares"):
        encode(asked.spec, values, np.array([1], np.int32), asked_bare)
