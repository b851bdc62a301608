"""What would be biased, silent or impossible is refused at setup, with the reason and a way out."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.planner_samples import CONFIDENCE, JSD1, KL1, KL2, SAMPLED, SCHEDULED, job, teachers
from tutelage.config.objectives import Uniform, Weighted
from tutelage.config.payload import (
    AutoPayload,
    DensePayload,
    HiddenPayload,
    Payload,
    SampledPayload,
    TopKPayload,
)
from tutelage.errors import ConfigError
from tutelage.signals.planner import plan
from tutelage.signals.refusals import check
from tutelage.signals.spec import PayloadSpec

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("payloads", "facts", "says"),
    [
        (
            [SAMPLED],
            {"objectives": JSD1},
            "t0.payload: type sampled with objective jsd; reverse KL and JSD are not",
        ),
        (
            [TopKPayload(type="topk")],
            {"objectives": JSD1},
            "t0.payload: type topk with objective jsd; the tail's",
        ),
        (
            [SAMPLED],
            {"objectives": SCHEDULED},
            "t0.payload: type sampled, and objectives.kl.temperature is a schedule (linear from 4 to 1)",
        ),
        (
            [TopKPayload(type="topk")],
            {"objectives": SCHEDULED},
            "t0.payload: type topk, and objectives.kl.temperature is a schedule (linear from 4 to 1)",
        ),
        (
            [TopKPayload(type="topk")] * 2,
            {"combiner": CONFIDENCE},
            "topk with combiner confidence, which goes by",
        ),
        (
            [SampledPayload(type="sampled", mixture="yes")] * 2,
            {"combiner": CONFIDENCE},
            "mixture is yes, and combiner confidence knows its weights only from the replies",
        ),
        (
            [SampledPayload(type="sampled", mixture="yes"), DensePayload(type="dense")],
            {},
            "teachers.t1.payload: dense of its own beside a mixture of t0",
        ),
        (
            [SampledPayload(type="sampled", mixture="yes"), SampledPayload(type="sampled", mixture="no")],
            {},
            "teachers.t1.payload: sampled of its own beside a mixture of t0",
        ),
        (
            [SampledPayload(type="sampled", mixture="yes"), SampledPayload(type="sampled", draws=50)],
            {},
            "payloads of one mixture that differ in draws",
        ),
        (
            [TopKPayload(type="topk", k=151_936)],
            {},
            "payload.k is 151936 of 151936 classes; allowed is 1 to 151935",
        ),
        ([HiddenPayload(type="hidden")], {"task": "sequence-classification"}, "type hidden is for causal-lm"),
        (
            [HiddenPayload(type="hidden")],
            {"task": "token-classification"},
            "task.type is token-classification",
        ),
        ([SAMPLED], {"task": "question-answering"}, "whose classes are the words of each text"),
        (
            [AutoPayload()] * 2,
            {"combiner": Weighted(type="weighted", weights={"t0": 1, "t1": 0})},
            "combiner.weights.t1 is 0: the teacher would be asked and never heard",
        ),
    ],
)
def test_what_would_be_biased_or_silent_is_refused_with_the_reason(
    payloads: list[Payload], facts: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(teachers(*payloads), job(**facts))
    assert says in caught.value.problem
    assert caught.value.fix


def test_hidden_without_a_linear_head_is_refused() -> None:
    with pytest.raises(ConfigError, match="one linear layer without bias, which this model lacks"):
        plan(teachers(HiddenPayload(type="hidden"), hidden=None), job())


@pytest.mark.parametrize("kind", ["topk", "sampled"])
def test_another_temperature_than_the_objectives_is_refused(kind: Any) -> None:
    spec = PayloadSpec(kind, 100, "fp16", 12, 1.0)
    check({"t0": spec}, task="causal-lm", combiner=Uniform(), objectives=KL1)
    with pytest.raises(ConfigError, match=r"at temperature 1, and objectives\.kl\.temperature is 2"):
        check({"t0": spec}, task="causal-lm", combiner=Uniform(), objectives=KL2)
    dense = PayloadSpec("dense", 100)
    check({"t0": dense}, task="causal-lm", combiner=Uniform(), objectives=[*KL2, *JSD1])
    check({"t0": dense}, task="causal-lm", combiner=Uniform(), objectives=SCHEDULED)


@pytest.mark.parametrize("kind", ["topk", "hidden", "sampled"])
def test_int8_is_for_dense_alone(kind: Any) -> None:
    spec = PayloadSpec(kind, 100, "int8", 12, 2.0)
    with pytest.raises(ConfigError, match=f"dtype is int8 with type {kind}"):
        check({"t0": spec}, task="causal-lm", combiner=Uniform(), objectives=KL2)


@pytest.mark.parametrize("second", [0, 2])
def test_two_teachers_in_one_place_of_a_mixture_are_refused(second: int) -> None:
    specs = {
        f"t{k}": PayloadSpec("sampled", 100, entries=12, temperature=2.0, mixture="m", member=member)
        for k, member in enumerate((0, second))
    }
    with pytest.raises(ConfigError, match="payloads of one mixture"):
        check(specs, task="causal-lm", combiner=Uniform(), objectives=KL2)
