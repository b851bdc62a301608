"""Every combiner keeps one contract, and each weighs teachers as its formula says.

Shapes: P positions, V classes, K teachers. Here each example has one position.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from tutelage.config.objectives import Confidence, Uniform, Validated, Weighted
from tutelage.errors import ConfigError
from tutelage.objectives import Dense, build_combiner, mixture
from tutelage.objectives.base import CombinerRule

pytestmark = pytest.mark.unit

TEACHERS = ["movies", "shop", "tweets"]
MEASURED = {
    "film": {"movies": 0.2, "shop": 0.6, "tweets": 0.9},
    "wares": {"movies": 0.8, "shop": 0.1, "tweets": 0.5},
}
COMBINERS: dict[str, Any] = {
    "uniform": Uniform(),
    "weighted": Weighted(type="weighted", weights={"movies": 3, "shop": 1, "tweets": 0}),
    "confidence": Confidence(type="confidence"),
    "confidence, s=0": Confidence(type="confidence", sharpness=0),
    "confidence, s=100": Confidence(type="confidence", sharpness=100),
    "validated": Validated(type="validated"),
    "validated, s=0": Validated(type="validated", sharpness=0),
    "validated, s=20": Validated(type="validated", sharpness=20),
}
SLICES = ["film", "wares", "unheard-of", "film", "wares"]


def rule(name: str) -> CombinerRule:
    return build_combiner(COMBINERS[name], TEACHERS, MEASURED)


def weigh(combiner: CombinerRule, teachers_KPV: Tensor, slices: list[str]) -> Tensor:
    """Weights [K, P] for dense signals of examples with one position each."""
    signals = [Dense(logits_PV) for logits_PV in teachers_KPV]
    return combiner.weights(signals, slices, torch.arange(len(slices)))


def logits(batch: int = 5, classes: int = 4, seed: int = 0, size: float = 2.0) -> Tensor:
    return size * torch.randn(3, batch, classes, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [0.0, 2.0, 1e4, 1e38])
@pytest.mark.parametrize("name", COMBINERS)
def test_weights_are_not_negative_and_each_column_sums_to_1(name: str, size: float) -> None:
    weights_KP = weigh(rule(name), logits(size=size).clamp(-3e38, 3e38), SLICES)
    assert weights_KP.shape == (3, 5)
    assert (weights_KP >= 0).all()
    torch.testing.assert_close(weights_KP.sum(0), torch.ones(5), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", COMBINERS)
def test_an_examples_weights_do_not_depend_on_its_neighbours(name: str) -> None:
    teachers_KPV, order = logits(), [3, 1, 4, 0, 2]
    whole_KP = weigh(rule(name), teachers_KPV, SLICES)
    moved_KP = weigh(rule(name), teachers_KPV[:, order], [SLICES[b] for b in order])
    torch.testing.assert_close(moved_KP, whole_KP[:, order], rtol=1e-6, atol=1e-7)
    for b in range(5):
        alone_KP = weigh(rule(name), teachers_KPV[:, b : b + 1], SLICES[b : b + 1])
        torch.testing.assert_close(alone_KP, whole_KP[:, b : b + 1], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", COMBINERS)
def test_the_mixture_is_a_distribution(name: str) -> None:
    teachers_KPV = logits()
    target_PV = mixture(teachers_KPV, weigh(rule(name), teachers_KPV, SLICES), 2.0)
    assert target_PV.dtype == torch.float32
    torch.testing.assert_close(target_PV.sum(-1), torch.ones(5))


@pytest.mark.parametrize("name", COMBINERS)
@pytest.mark.parametrize("order", [[2, 0, 1], [1, 0, 2]])
def test_the_order_of_the_teachers_does_not_matter(name: str, order: list[int]) -> None:
    teachers_KPV = logits()
    shuffled = build_combiner(COMBINERS[name], [TEACHERS[k] for k in order], MEASURED)
    torch.testing.assert_close(
        weigh(shuffled, teachers_KPV[order], SLICES), weigh(rule(name), teachers_KPV, SLICES)[order]
    )


@pytest.mark.parametrize("name", COMBINERS)
def test_a_batch_of_half_precision_logits_gives_fp32_weights(name: str) -> None:
    weights_KP = weigh(rule(name), logits().bfloat16(), SLICES)
    assert weights_KP.dtype == torch.float32


@pytest.mark.parametrize("name", ["uniform", "confidence, s=0", "validated, s=0"])
def test_sharpness_0_is_the_uniform_ensemble(name: str) -> None:
    weights_KP = weigh(rule(name), logits(), SLICES)
    torch.testing.assert_close(weights_KP, torch.full((3, 5), 1 / 3))


def test_weighted_scales_the_weights_to_sum_to_1() -> None:
    weights_KP = weigh(rule("weighted"), logits(), SLICES)
    assert weights_KP.T.tolist() == [[0.75, 0.25, 0.0]] * 5


def test_weighted_takes_weights_by_name_not_by_place() -> None:
    section = Weighted(type="weighted", weights={"tweets": 1, "movies": 0, "shop": 0})
    weights_KP = weigh(build_combiner(section, TEACHERS), logits(), SLICES)
    assert weights_KP[:, 0].tolist() == [0.0, 0.0, 1.0]


def test_confidence_is_a_softmax_of_the_entropy_over_log_c() -> None:
    """One teacher of entropy 0 and one of entropy log C: weights 1 / (1 + e^-s) and the rest."""
    teachers_KPV = torch.tensor([[[200.0, 0.0, 0.0]], [[1.0, 1.0, 1.0]]])
    section = Confidence(type="confidence", sharpness=4)
    weights_KP = weigh(build_combiner(section, ["one", "two"]), teachers_KPV, ["any"])
    assert weights_KP[0, 0].item() == pytest.approx(1 / (1 + math.exp(-4)), rel=1e-5)


def test_a_large_sharpness_leaves_the_surest_teacher_alone() -> None:
    teachers_KPV = torch.tensor([[[3.0, 0.0]], [[0.0, 9.0]], [[0.5, 0.0]]])
    weights_KP = weigh(rule("confidence, s=100"), teachers_KPV, ["any"])
    assert weights_KP[1, 0].item() > 0.999


def test_confidence_means_the_same_for_any_number_of_classes() -> None:
    section = Confidence(type="confidence", sharpness=4)
    found = []
    for classes in (2, 50):
        teachers_KPV = torch.zeros(2, 1, classes)
        teachers_KPV[0, 0, 0] = 200.0
        found.append(weigh(build_combiner(section, ["one", "two"]), teachers_KPV, ["any"])[0, 0].item())
    assert found[0] == pytest.approx(found[1], rel=1e-5)


@pytest.mark.parametrize("part", ["film", "wares"])
def test_validated_hears_the_best_teacher_of_each_slice_most(part: str) -> None:
    best = min(MEASURED[part], key=lambda name: MEASURED[part][name])
    weights_K = weigh(rule("validated"), logits(batch=1), [part])[:, 0]
    assert TEACHERS[int(weights_K.argmax())] == best
    sharp_K = weigh(rule("validated, s=20"), logits(batch=1), [part])[:, 0]
    assert sharp_K.max().item() > 0.999


def test_validated_is_a_softmax_of_the_negative_log_likelihood() -> None:
    weights_K = weigh(rule("validated"), logits(batch=1), ["film"])[:, 0]
    raw = [math.exp(-4 * MEASURED["film"][name]) for name in TEACHERS]
    assert weights_K.tolist() == pytest.approx([value / sum(raw) for value in raw], rel=1e-5)


def test_a_slice_that_was_not_measured_takes_the_mean_of_the_measured_ones() -> None:
    weights_KP = weigh(rule("validated"), logits(batch=3), ["film", "wares", "unheard-of"])
    torch.testing.assert_close(weights_KP[:, 2], weights_KP[:, :2].mean(1))


def test_a_teacher_that_would_be_heard_on_no_slice_is_refused() -> None:
    """Tweets is 0.4 nats behind everywhere: at sharpness 100 that is a weight of 4e-18."""
    with pytest.raises(ConfigError, match=r"sharpness 100: teacher 'tweets' weighs 4e-18 at most") as caught:
        build_combiner(Validated(type="validated", sharpness=100), TEACHERS, MEASURED)
    assert "lower combiner.sharpness" in caught.value.fix
    one_good = {**MEASURED, "birds": {"movies": 0.9, "shop": 0.9, "tweets": 0.1}}
    build_combiner(Validated(type="validated", sharpness=100), TEACHERS, one_good)


@pytest.mark.parametrize("measured", [None, {}])
def test_validated_without_measurements_is_an_error(measured: dict[str, dict[str, float]] | None) -> None:
    with pytest.raises(ValueError, match="no measured slices"):
        build_combiner(COMBINERS["validated"], TEACHERS, measured)
