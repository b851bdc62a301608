"""Jobs and teachers as the planner sees them."""

from __future__ import annotations

from typing import Any

from tutelage.config.objectives import JSD, KL, Confidence, CrossEntropy, Objective, Uniform
from tutelage.config.payload import Payload, SampledPayload
from tutelage.config.schedule import Linear
from tutelage.signals.planner import JobFacts, TeacherFacts

KL1: list[Objective] = [KL(type="kl", temperature=1), CrossEntropy(type="cross-entropy")]
KL2: list[Objective] = [KL(type="kl", temperature=2)]
SCHEDULED: list[Objective] = [KL(type="kl", temperature=Linear(type="linear", start=4, end=1))]
JSD1: list[Objective] = [JSD(type="jsd")]
CONFIDENCE = Confidence(type="confidence")
SAMPLED = SampledPayload(type="sampled")


def teachers(*payloads: Payload, width: int = 151_936, hidden: int | None = 1024) -> list[TeacherFacts]:
    return [TeacherFacts(f"t{k}", width, hidden, payload) for k, payload in enumerate(payloads)]


def job(**changes: Any) -> JobFacts:
    return JobFacts(**{"task": "causal-lm", "combiner": Uniform(), "objectives": KL2, **changes})
