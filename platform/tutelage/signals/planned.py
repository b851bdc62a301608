"""What the planner knows, what it decides, and how it says so in one line. Loads no torch.

Shapes: V classes or vocabulary, H hidden, K teachers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tutelage.config.objectives import JSD, KL, Combiner, Objective
from tutelage.config.payload import AutoPayload, Payload
from tutelage.config.schedule import is_constant, peak, value_at
from tutelage.signals.sizes import position_bytes
from tutelage.signals.spec import PayloadSpec

UNITS = {"causal-lm": "token", "token-classification": "word", "question-answering": "word"}
"""Type of the task -> what one row of a teacher is; a text where none is named."""


@dataclass(frozen=True)
class TeacherFacts:
    """What the planner knows of a teacher."""

    name: str
    width: int
    """V: values in a row of its logits."""
    hidden: int | None = None
    """H, where its vocabulary head is one linear layer without bias."""
    payload: Payload = field(default_factory=AutoPayload)
    positions_s: float | None = None
    """Positions a second that the whole fleet of the teacher scores, where that was measured."""


@dataclass(frozen=True)
class JobFacts:
    """What the planner knows of the job."""

    task: str
    """Type of the task."""
    combiner: Combiner
    objectives: Sequence[Objective]
    student_flop: float | None = None
    """FLOP of the student's training for one position: about 6 for each weight."""
    link_mb_s: float | None = None
    """Megabytes a second from all teachers to one student."""
    store_mb: float | None = None
    """Room for the signals of all teachers."""
    positions: int | None = None
    """Positions of one epoch."""
    epochs: int = 1
    measured: Mapping[str, Mapping[str, float]] | None = None
    """What the validated combiner goes by; it is part of a mixture's name."""
    seed: int = 0
    """Of the draws. Runs that share it share stored draws, whatever their own seeds."""

    @property
    def needs_every_label(self) -> str:
        """Why top-k or draws tell too little; empty when they tell enough."""
        if any(isinstance(o, JSD) for o in self._heard):
            return "jsd looks at every label"
        if any(not is_constant(o.temperature) for o in self._heard):
            return "the temperature of kl follows a schedule, and draws or a top-k serve a single one"
        return ""

    @property
    def temperature(self) -> float:
        """Of the term that hears the teachers, at the first step."""
        heard = self._heard
        return value_at(heard[0].temperature, 0.0) if heard else 1.0

    @property
    def _heard(self) -> list[KL | JSD]:
        return [o for o in self.objectives if isinstance(o, KL | JSD) and peak(o.weight) > 0]

    @property
    def unit(self) -> str:
        """What a position is: token, word or text."""
        return UNITS.get(self.task, "text")


@dataclass(frozen=True)
class Planned:
    """One teacher's payload and what it costs."""

    teacher: str
    spec: PayloadSpec
    position_bytes: float
    """Of one position's values. From a mixture the expected number; its sum over teachers is exact."""
    head_flop: int
    """What applying the teacher's head costs the student, a position; 0 but for hidden."""
    positions_s: float | None
    """Expected positions a second; None where neither the link nor the teacher is known to bound it."""
    limit: Literal["link", "teacher"] | None
    """Which of the two bounds them."""
    unit: str
    reason: str

    @property
    def line(self) -> str:
        """All of it in one line for people."""
        speed = ""
        if self.positions_s is not None:
            speed = f", at most {self.positions_s:,.0f} {self.unit}s/s by the {self.limit}"
        size = f"{count_bytes(self.position_bytes)} a {self.unit}"
        return f"{self.teacher}: {describe(self.spec)}, {size}{speed}: {self.reason}"


def describe(spec: PayloadSpec) -> str:
    """The payload in a few words."""
    match spec.kind:
        case "sampled":
            return f"sampled, {spec.entries} draws" + (" shared by the teachers" if spec.mixture else "")
        case "topk":
            return f"top-{spec.entries} {spec.dtype} with tail"
        case _:
            return f"{spec.kind} {spec.dtype}"


def word(spec: PayloadSpec) -> str:
    """The payload for a column of a table."""
    match spec.kind:
        case "sampled":
            return f"{spec.entries} {'shared ' if spec.mixture else ''}draws"
        case "topk":
            return f"top-{spec.entries} {spec.dtype}"
        case _:
            return f"{spec.kind} {spec.dtype}"


def alternatives(teacher: TeacherFacts, job: JobFacts, teachers: int) -> str:
    """Bytes a position of what could be sent instead by K teachers together, and the FLOP of their heads."""
    width = teacher.width
    own = teachers * position_bytes(PayloadSpec("sampled", width, entries=12))
    found = [("dense bf16", teachers * position_bytes(PayloadSpec("dense", width, "bf16")))]
    if teacher.hidden:
        found.append(
            ("hidden bf16", teachers * position_bytes(PayloadSpec("hidden", teacher.hidden, "bf16")))
        )
    if not job.needs_every_label:
        if width > 64:
            found.append(("top-64", teachers * position_bytes(PayloadSpec("topk", width, "fp16", 64))))
        found.append(("12 own draws", own))
        found.append(
            ("12 shared draws", position_bytes(PayloadSpec("sampled", width, entries=12, mixture="-")))
        )
    listed = ", ".join(f"{name} {count_bytes(size)}" for name, size in found)
    heads = ""
    if teacher.hidden:
        flop = 2.0 * teachers * teacher.hidden * width
        heads = f"; heads {flop / 1e6:,.1f} MFLOP"
        if job.student_flop:
            heads += f", {flop / job.student_flop:.0%} of the student's training"
    return f"{'all' if teachers > 1 else 'alone'}: {listed}{heads}"


def count_bytes(value: float) -> str:
    """`384 B`, and `38.4 B` where it is an expected number."""
    return f"{value:,.0f} B" if value == int(value) else f"{value:,.1f} B"
