"""The whole content of a report as frozen models. JSON in, JSON out: `--json` prints exactly this.

Units: seconds, milliseconds where the name ends in `_ms`, bytes, accuracies and weights as fractions of one.
A measured number that is not finite (a loss that diverged, a latency never taken) is kept as None: null in
JSON, a dash on the page. The order of the domains is the order in which the accuracy rows name them.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, model_validator

_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_MEAN_SLACK = 0.005  # a mean of unrounded accuracies may stand a little outside the rounded ones


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _printable(value: Any) -> Any:
    return _UNPRINTABLE.sub("\ufffd", value) if isinstance(value, str) else value


Measured = Annotated[float | None, BeforeValidator(_finite)]
Text = Annotated[str, BeforeValidator(_printable)]
ModelKind = Literal["teacher", "ensemble", "combiner", "student"]
Runtime = Literal["torch", "onnx", "int8"]


class Figures(BaseModel):
    """Base of every part: frozen, unknown keys refused, no infinities where a number is required."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Machine(Figures):
    """What the figures were measured on."""

    cpu: Text = ""
    cores: int | None = None
    memory_gb: Measured = None
    gpu: Text | None = None
    os: Text = ""


class Check(Figures):
    """One thing that was promised, whether it holds, and the figures behind it in words."""

    name: Text
    ok: bool
    text: Text = ""


class StageFigure(Figures):
    """One step of the command and its wall time in seconds; stages follow each other."""

    name: Text
    seconds: float = Field(ge=0)
    detail: Text = ""


class SourceFigure(Figures):
    """Rows of one data source by split, how many training rows carry a label, and bad rows by reason.

    Tokens are the student's; `cut` are texts longer than data.max_tokens.
    """

    source: Text
    train: int = 0
    validation: int = 0
    test: int = 0
    labelled: int = 0
    bad: dict[str, int] = Field(default_factory=dict)
    texts: int = 0
    cut: int = 0
    tokens: int = 0
    unknown: int = 0


class ClassFigure(Figures):
    """Rows of one label by split, over all sources."""

    label: Text
    train: int = 0
    validation: int = 0
    test: int = 0


class LeakFigure(Figures):
    """How many test texts stand in the training rows, word for word or nearly."""

    texts: int
    same: int
    near: int
    examples: list[Text] = Field(default_factory=list)


class Point(Figures):
    """One logged step: loss, its weighted parts, learning rate, and accuracy where it was measured."""

    step: int
    loss: Measured = None
    parts: dict[str, Measured] = Field(default_factory=dict)
    lr: Measured = None
    accuracy: Measured = None


class Curve(Figures):
    """The points of one training in order of step."""

    name: Text
    kind: Literal["teacher", "student"]
    points: list[Point] = Field(default_factory=list)


class AccuracyRow(Figures):
    """Accuracy, or what `Report.metric` says, of one model on each domain's test texts.

    Kind `ensemble` is the uniform mean of the teachers.

    mean: each domain counts the same; computed where it is not given. low, high: its 95 % interval, Wilson's
    for labels of texts, else of drawn texts. examples: test texts over all domains.
    """

    model: Text
    kind: ModelKind
    runtime: Runtime | None = None
    by_slice: dict[str, Measured] = Field(default_factory=dict)
    mean: Measured = None
    low: Measured = None
    high: Measured = None
    examples: int = 0

    @model_validator(mode="before")
    @classmethod
    def _mean_of_slices(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("mean") is not None:
            return values
        known = [v for v in (values.get("by_slice") or {}).values() if v is not None and math.isfinite(v)]
        return {**values, "mean": math.fsum(known) / len(known)} if known else values

    @model_validator(mode="after")
    def _mean_within_slices(self) -> AccuracyRow:
        known = [v for v in self.by_slice.values() if v is not None]
        if known and self.mean is not None:
            low, high = min(known) - _MEAN_SLACK, max(known) + _MEAN_SLACK
            if not low <= self.mean <= high:
                raise ValueError(
                    f"mean {self.mean} of {self.model!r} lies outside its domains {min(known)}..{max(known)}"
                )
        return self


class CombinerFigure(Figures):
    """Mean weight of each teacher by domain: `weights[domain][teacher]`; each domain sums to 1."""

    name: Text
    weights: dict[str, dict[str, Measured]] = Field(default_factory=dict)


class SizeRow(Figures):
    """Bytes on disk and parameters of one artifact. Without a kind it is told by the name (see claims)."""

    name: Text
    bytes: int = Field(ge=0)
    parameters: int | None = None
    kind: Literal["teacher", "student"] | None = None


class LatencyRow(Figures):
    """Time of one forward pass of a named artifact (the name of its size row) at one batch and length."""

    name: Text
    batch: int = 1
    tokens: int = 0
    p50_ms: Measured = None
    p95_ms: Measured = None
    texts_per_s: Measured = None


class TeacherFigure(Figures):
    """What one fleet did during the distillation.

    p50_ms: median working time of a call. queue_p50_ms: median of what a call took besides, on the way and
    behind others. wait_share: share of the training that the student waited for this teacher. bytes_position:
    bytes received for one position (`Report.unit`). cached_share: of the examples, those that the signal
    store answered. replicas, respawns: at the end, and in all. lost_batches: batches that went on without it.
    """

    name: Text
    payload: Text = ""
    reason: Text = ""
    """Why the planner chose this payload."""
    bytes_position: Measured = None
    replicas: int = 1
    max_replicas: int | None = None
    calls: int = 0
    examples: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    p50_ms: Measured = None
    queue_p50_ms: Measured = None
    wait_share: Measured = None
    retries: int = 0
    hedges: int = 0
    respawns: int = 0
    lost_batches: int = 0
    cache_hits: int = 0
    cached_share: Measured = None
    notes: list[Text] = Field(default_factory=list)
    """What happened to it, in words: left out, back again."""


class SelfTestFigure(Figures):
    """The student as its own teacher, through the stream: divergence and gradient must be 0.

    kl: the largest of a position; for draws the mean over positions of what they miss. gradient: the largest
    by a logit, None for draws. allowed: the largest of both that passes.
    """

    payload: Text
    positions: int = 0
    kl: Measured = None
    gradient: Measured = None
    allowed: Measured = None
    passed: bool


class Parity(Figures):
    """Signals that came through the stream against the same teacher asked in this process."""

    max_abs_diff: Measured = None
    examples: int = 0
    same_label: int = 0
    tolerance: Measured = None
    ok: bool


class Answer(Figures):
    """One request to the endpoint and what came back."""

    text: Text
    label: Text
    score: Measured = None
    latency_ms: Measured = None


class EndpointFigure(Figures):
    """The endpoint that serves the student, and the answers it gave."""

    url: Text
    version: Text = ""
    answers: list[Answer] = Field(default_factory=list)
    p50_ms: Measured = None


class Report(Figures):
    """All figures of one command. Parts that a command does not have stay empty and off the page."""

    title: Text
    command: Text
    created: Text
    seconds: float = Field(ge=0)
    machine: Machine = Field(default_factory=Machine)
    versions: dict[str, str] = Field(default_factory=dict)
    run: Text = ""
    version: Text | None = None
    verdict: list[Check] = Field(default_factory=list)
    stages: list[StageFigure] = Field(default_factory=list)
    data: list[SourceFigure] = Field(default_factory=list)
    classes: list[ClassFigure] = Field(default_factory=list)
    leaks: LeakFigure | None = None
    data_notes: list[Text] = Field(default_factory=list)
    """What was left out or read otherwise than it stands in the files, and what is a concern in the rows."""
    curves: list[Curve] = Field(default_factory=list)
    metric: Text = "accuracy"
    """What the accuracy rows measure: the main metric of the task."""
    unit: Text = "text"
    """What one position is: text, word or token."""
    accuracy: list[AccuracyRow] = Field(default_factory=list)
    not_measured: list[Text] = Field(default_factory=list)
    """What has no figure among the accuracy rows, and why, in sentences."""
    combiner: CombinerFigure | None = None
    sizes: list[SizeRow] = Field(default_factory=list)
    latency: list[LatencyRow] = Field(default_factory=list)
    teachers: list[TeacherFigure] = Field(default_factory=list)
    parity: Parity | None = None
    self_tests: list[SelfTestFigure] = Field(default_factory=list)
    endpoint: EndpointFigure | None = None
    lineage: dict[str, JsonValue] = Field(default_factory=dict)
    config_yaml: Text = ""
    next_command: Text = ""

    @property
    def measure(self) -> str:
        """The metric as it is written within a sentence: accuracy, F1, exact match."""
        return "F1" if self.metric == "f1" else self.metric.replace("_", " ")

    @property
    def counts_texts(self) -> bool:
        """Whether the metric is the share of test texts that are right."""
        return self.metric == "accuracy" and self.unit == "text"

    def slices(self) -> list[str]:
        """The domains, in the order in which the accuracy rows (else the combiner) name them."""
        named = [name for row in self.accuracy for name in row.by_slice]
        return list(dict.fromkeys(named or (self.combiner.weights if self.combiner else [])))

    def teacher_names(self) -> list[str]:
        """The teachers, in the order of the accuracy rows, then the fleets, the combiner, the curves."""
        names = [row.model for row in self.accuracy if row.kind == "teacher"]
        names += [fleet.name for fleet in self.teachers]
        names += [
            name for weights in (self.combiner.weights if self.combiner else {}).values() for name in weights
        ]
        names += [curve.name for curve in self.curves if curve.kind == "teacher"]
        return list(dict.fromkeys(names))
