"""The whole content of a search report as frozen models; `search.json` holds exactly this.

Units: seconds, milliseconds where the name ends in `_ms`, megabytes where it ends in `_mb`, accuracies and
shares as fractions of one. A measured number that is not finite is kept as None.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, JsonValue, TypeAdapter

from tutelage.report.figures import Figures, Measured, Text

Status = Literal["done", "stopped", "failed", "out-of-memory", "refused"]
FINISHED: tuple[Status, ...] = ("done", "stopped")
_TEXT: TypeAdapter[str] = TypeAdapter(Text)


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return _TEXT.validate_python(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    return value


def _within_one(value: Any) -> Any:
    if isinstance(value, int | float):
        return min(max(float(value), 0.0), 1.0) if math.isfinite(value) else 0.0
    return value


Value = Annotated[JsonValue, BeforeValidator(_clean)]
Share = Annotated[float, BeforeValidator(_within_one)]


class SearchedKey(Figures):
    """One key of the job file and where it was searched: low to high, or one of the values of a choice."""

    key: Text
    kind: Literal["float", "log", "int", "choice"]
    low: Measured = None
    high: Measured = None
    values: list[Value] = Field(default_factory=list)


class CurvePoint(Figures):
    """One validation of a trial; progress is the share of its whole budget."""

    step: int
    progress: Share
    accuracy: Measured = None
    loss: Measured = None


class TrialFigures(Figures):
    """One trial. metric is what the search compares; accuracy and loss are of the validation split.

    start_s: seconds after the start of the search. progress: share of its budget that it ran. parent: the
    trial whose weights it took, where the scheduler hands weights on.
    """

    id: Text
    number: int
    status: Status
    values: dict[Text, Value] = Field(default_factory=dict)
    metric: Measured = None
    accuracy: Measured = None
    loss: Measured = None
    latency_ms: Measured = None
    size_mb: Measured = None
    weights: int | None = None
    seconds: Measured = None
    start_s: Measured = None
    steps: int = 0
    progress: Share = 0.0
    curve: list[CurvePoint] = Field(default_factory=list)
    error: Text | None = None
    parent: Text | None = None


class Importance(Figures):
    """Share of the explained spread of the metric that is due to one key, with its 90 % interval."""

    key: Text
    mean: Share
    low: Share
    high: Share


class Winner(Figures):
    """The trial that became a run, and its figures there."""

    run: Text
    version: Text | None = None
    trial: Text
    accuracy: Measured = None
    test_accuracy: Measured = None
    int8_accuracy: Measured = None
    latency_ms: Measured = None
    size_mb: Measured = None
    command: Text = ""


class Baseline(Figures):
    """The job file as it is, measured as the trials are."""

    accuracy: Measured = None
    loss: Measured = None


class SearchReport(Figures):
    """All figures of one search. Parts that a search does not have stay empty and off the page.

    limits: field of a trial (`latency_ms`, `size_mb`, `weights`, `loss`: the highest, `accuracy`: the lowest
    that is allowed). near_miss: the trial nearest to the limits when none met them all. texts: distinct
    training texts. payloads: kinds of signals that were kept for them.
    """

    search: Text
    job: Text
    created: Text
    command: Text
    metric: Literal["accuracy", "loss"] = "accuracy"
    mode: Literal["max", "min"] = "max"
    searcher: Text = ""
    scheduler: Text = ""
    objectives: list[Text] = Field(default_factory=list)
    seconds: float = Field(ge=0)
    machine: dict[Text, Text] = Field(default_factory=dict)
    keys: list[SearchedKey] = Field(default_factory=list)
    trials: list[TrialFigures] = Field(default_factory=list)
    best: Text | None = None
    front: list[Text] = Field(default_factory=list)
    importances: list[Importance] = Field(default_factory=list)
    importance_note: Text = ""
    limits: dict[Text, float] = Field(default_factory=dict)
    near_miss: Text | None = None
    teacher_calls: dict[Text, int] = Field(default_factory=dict)
    texts_scored: dict[Text, int] = Field(default_factory=dict)
    texts: int = 0
    payloads: int = 0
    winner: Winner | None = None
    baseline: Baseline | None = None
    notes: list[Text] = Field(default_factory=list)
    config_yaml: Text = ""

    def trial(self, name: str | None) -> TrialFigures | None:
        """The trial of an id; None where there is none."""
        return next((trial for trial in self.trials if trial.id == name), None)

    def ranked(self) -> list[TrialFigures]:
        """The trials that ended with a metric, the best first; equal ones in the order of their numbers."""
        sign = -1.0 if self.mode == "max" else 1.0
        known = [(sign * t.metric, t.number, t) for t in self.trials if counts(t) and t.metric is not None]
        return [trial for _, _, trial in sorted(known, key=lambda item: item[:2])]

    def unranked(self) -> list[TrialFigures]:
        """All other trials in the order of their numbers."""
        known = {trial.id for trial in self.ranked()}
        return sorted((t for t in self.trials if t.id not in known), key=lambda trial: trial.number)

    @property
    def baseline_metric(self) -> float | None:
        """What the job file reaches as it is, in the metric of the search."""
        if self.baseline is None:
            return None
        return self.baseline.accuracy if self.metric == "accuracy" else self.baseline.loss


def counts(trial: TrialFigures) -> bool:
    """Whether the trial ended with a metric, at its end or where it was stopped."""
    return trial.status in FINISHED and trial.metric is not None
