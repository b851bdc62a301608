"""Teacher = student through the whole stream: the divergence must be 0, and so must its gradient.

A wrong digest, order of classes, alignment, temperature or payload shows here before anything is trained.
Shapes: P positions, V classes or vocabulary.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass, replace
from typing import Any

import torch

from actors.channel import TeacherChannel
from actors.engine import inputs_of
from actors.fleet import Fleet
from actors.losses import Losses, asker
from actors.stream import SignalStream
from actors.teacher import TeacherSpec
from actors.training import Training
from actors.workspace import Workspace
from tutelage.config.models import TeacherConfig
from tutelage.config.objectives import Uniform
from tutelage.config.schedule import peak
from tutelage.data.examples import Batch, Examples
from tutelage.models.load import load_tokenizer
from tutelage.objectives import Evidence
from tutelage.progress import Stage
from tutelage.signals.spec import PayloadSpec, WireType
from tutelage.signals.store import MemoryStore
from tutelage.tasks import build_task

EXAMPLES, BATCH = 64, 8
ALLOWED: dict[WireType, float] = {"fp32": 1e-6, "fp16": 1e-4, "bf16": 1e-2, "int8": 1e-2}
"""Largest divergence at a position, and gradient by a logit, that the rounding of a payload explains."""
EXACT_WIDTH = 8192
"""Rows of logits up to this width are also sent in full and in fp32, whatever the job's own payload is."""
NAME = "student"


@dataclass(frozen=True)
class SelfTest:
    """What came back from a teacher that is the student."""

    payload: str
    positions: int
    kl: float
    """Largest divergence of a position; for draws, the mean over positions of what they miss on average."""
    gradient: float | None
    """Largest gradient of the mean loss by a logit; None for draws, where only its mean is 0."""
    allowed: float
    """What the payload's rounding explains; for draws four standard errors of the mean."""

    @property
    def passed(self) -> bool:
        """No difference between teacher and student came into being on the way."""
        return abs(self.kl) <= self.allowed and (self.gradient or 0.0) <= self.allowed


def self_test(space: Workspace, training: Training, stage: Stage) -> list[SelfTest]:
    """Run the student of a training as its own teacher, once for each payload of the training.

    Needs a connected Ray. Raises TeacherError when the stream itself fails.
    """
    task = build_task(training.task)
    model = training.model(dropout=0.0)
    with tempfile.TemporaryDirectory(prefix="tutelage-") as folder:
        model.eval().save_pretrained(folder)
        load_tokenizer(training.tokenizer).save_pretrained(folder)
        config = TeacherConfig(name=NAME, model=folder, num_cpus=0.5)
        spec = TeacherSpec(
            NAME, folder, folder, (), space.job.data.max_tokens, 1, fingerprint="self", task=training.task
        )
        # The teacher is what the folder says, and so is the student: the same rounding of saved weights.
        student = task.load(folder).eval()
        fleet = Fleet([(spec, config)], training.stream)
        try:
            fleet.ready(training.stream.start_s)
            kinds = list(dict.fromkeys([*_exact(training), *map(_alone, training.payloads.values())]))
            return [_one(training, kind, student, fleet, stage) for kind in kinds]
        finally:
            fleet.stop()


def _exact(training: Training) -> list[PayloadSpec]:
    """All logits in fp32, which must come back to the last bit."""
    wide = {spec.width for spec in training.payloads.values() if spec.kind != "hidden"}
    return [PayloadSpec("dense", width) for width in wide if width <= EXACT_WIDTH]


def _alone(payload: PayloadSpec) -> PayloadSpec:
    """The payload as a single teacher sends it."""
    return replace(payload, mixture="", member=0)


def _one(training: Training, payload: PayloadSpec, student: Any, fleet: Fleet, stage: Stage) -> SelfTest:
    alone = replace(
        training, payloads={NAME: payload}, combiner=Uniform(), measured={}, objectives=_hearing(training)
    )
    examples = Examples.open(training.examples)
    channel = TeacherChannel(NAME, fleet.members[NAME], payload, training.stream)
    stream = SignalStream([channel], {NAME: MemoryStore()}, training.stream, asker(alone, examples))
    losses = Losses(alone, examples, lambda _: channel.head())
    chosen = examples.select("train", training.picks)
    rows, labelled = chosen.rows[:EXAMPLES], chosen.labelled[:EXAMPLES]
    batches = [
        examples.batch(rows[start : start + BATCH], labelled[start : start + BATCH], 0)
        for start in range(0, len(rows), BATCH)
    ]
    parts = []
    for done, (batch, packets) in enumerate(stream.pair(batches), start=1):
        parts.append(_differences(losses, student, batch, packets, drawn=payload.kind == "sampled"))
        stage.update(done, len(batches))
    differences_P = torch.cat([part for part, _ in parts])
    if payload.kind == "sampled":
        error = 4 * float(differences_P.std()) / math.sqrt(len(differences_P))
        return SelfTest(
            payload.key, len(differences_P), float(differences_P.mean()), None, max(ALLOWED["fp32"], error)
        )
    gradient = max(part for _, part in parts)
    allowed = ALLOWED[payload.dtype]
    return SelfTest(payload.key, len(differences_P), float(differences_P.max()), gradient, allowed)


def _differences(
    losses: Losses, student: Any, batch: Batch, packets: list[Any], *, drawn: bool
) -> tuple[torch.Tensor, float]:
    """What each position's loss is above 0 (drawn: above the student's entropy), and the largest gradient."""
    with torch.inference_mode():
        output = student(**inputs_of(batch, student))
    rows = losses.task.student(output, batch)
    logits_PV = rows.logits_PV.clone().requires_grad_()
    evidence = replace(losses.evidence(rows, batch, packets), student_PV=logits_PV)
    total_P = torch.stack([term.per_position(evidence) for term in losses.terms]).sum(0)
    (gradient_PV,) = torch.autograd.grad(total_P.mean(), logits_PV)
    if drawn:
        total_P = total_P - _entropy(losses, evidence)
    return total_P.detach().double(), float(gradient_PV.abs().max())


def _entropy(losses: Losses, evidence: Evidence) -> torch.Tensor:
    """Cross-entropy on draws when teacher and student agree: T^2 H(q), summed over the terms."""
    values = []
    for term in losses.terms:
        temperature = getattr(term, "temperature", 1.0)
        log_q_PV = torch.log_softmax(evidence.student_PV.float() / temperature, -1)
        values.append(-(temperature**2) * (log_q_PV.exp() * log_q_PV).sum(-1))
    return torch.stack(values).sum(0)


def _hearing(training: Training) -> list[Any]:
    """The terms that listen to teachers, each with weight 1 and the temperature of the first step."""
    terms = [term for term in training.objectives if term.type in ("kl", "jsd") and peak(term.weight) > 0]
    return [term.model_copy(update={"weight": 1.0}) for term in terms]
