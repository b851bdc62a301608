"""What one training is, and what it leaves behind: plain data that travels between processes."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from tutelage.config.architecture import Architecture
from tutelage.config.data import Pick
from tutelage.config.models import Method
from tutelage.config.objectives import Combiner, Objective
from tutelage.config.on_policy import OnPolicy
from tutelage.config.runtime import StreamConfig
from tutelage.config.schedule import value_at
from tutelage.config.task import Task
from tutelage.config.train import TrainConfig
from tutelage.config.update import CHAMPION, Distil, Regulariser
from tutelage.holder import Fence
from tutelage.signals.spec import PayloadSpec


@dataclass(frozen=True, kw_only=True)
class Increment:
    """What makes a training an update of a version."""

    regulariser: Regulariser | None = None
    strength: float = 0.0
    """Lambda of this training; `auto` tries several."""
    anchors: str = ""
    """File of precisions and centres; needed with a regulariser."""
    blocks: str = ""
    """File of Kronecker blocks; for `kfac` alone."""
    distil: Distil | None = None
    """The version before is then the teacher `champion`, apart from the others."""
    replayed: tuple[str, ...] = ()
    """Sources whose rows are replayed."""
    share: float = 0.0
    """Of replayed rows among those of an epoch."""
    logits_weight: float = 0.0
    stored: str = ""
    """File of logits that were stored with replayed texts; none when empty."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training of a teacher or of the student, on any number of workers."""

    run: str
    """Run id: names the folder of checkpoints, so the same run resumes."""
    base: str
    """Model folder to start from."""
    tokenizer: str
    task: Task
    layers: list[int] | None
    method: Method
    train: TrainConfig
    objectives: list[Objective]
    combiner: Combiner
    stream: StreamConfig
    examples: str
    """Arrow file of tokenised rows."""
    picks: dict[str, Pick] | None
    """What is read of each source's train split."""
    slices: list[str] | None
    """Sources whose validation rows count; all when None."""
    seed: int
    storage: str
    """Where checkpoints go: a folder or URL that every node sees."""
    output: str
    """Where the trained model goes."""
    architecture: Architecture | None = None
    """Build a model of this shape anew, and start it from the base; None takes the base itself."""
    on_policy: OnPolicy | None = None
    """How the student writes texts of its own; None reads the data alone."""
    payloads: dict[str, PayloadSpec] = field(default_factory=dict)
    """What each teacher sends, in the order of the job's teachers."""
    stores: dict[str, str] = field(default_factory=dict)
    """Folder of the signal store of each teacher."""
    increment: Increment | None = None
    """What is kept of the version before, where this is an update."""
    watched: tuple[int, ...] = ()
    """Labelled rows of earlier slices that are looked at on the way; they decide nothing."""
    groups: tuple[int, ...] = ()
    """Of each class; classes of different groups do not compete. All do where it is empty."""
    fence: Fence | None = None
    """Shuts this training out when another process takes its run; none for one that nobody recorded."""
    measured: dict[str, dict[str, float]] = field(default_factory=dict)
    """What the validated combiner goes by: slice -> teacher -> NLL; empty for other combiners."""

    @property
    def combined(self) -> list[str]:
        """The teachers that the combiner mixes: all but the version before."""
        return [name for name in self.payloads if self.increment is None or name != CHAMPION]

    def model(self, dropout: float | None = None) -> Any:
        """What is trained, before its first step. Raises ModelError."""
        from tutelage.models.initial import new_student

        return new_student(
            self.task, self.base, self.layers, self.architecture, self.method, dropout=dropout, seed=self.seed
        )


@dataclass
class TrainState:
    """Where a training stands; part of every checkpoint, free of the number of workers."""

    step: int = 0
    points: list[dict[str, Any]] = field(default_factory=list)
    """Logged steps: step, epoch, loss, parts, lr; accuracy where it was measured, and schedules where a
    weight or temperature follows one: what it was in this step, as `kl.temperature`."""
    kept: list[dict[str, Any]] = field(default_factory=list)
    """At the start and at each evaluation: step, and `accuracy` of the watched rows by slice."""
    chosen: dict[str, Any] | None = None
    """What was measured of the weights that a training ending here would give: step, examples, accuracy,
    validation_loss, fidelity; None where nothing was."""
    best: float | None = None
    stale: int = 0
    """Evaluations since the best one."""
    stopped_early: bool = False
    seconds: float = 0.0
    """Training time, over all resumes."""
    start_loss: float | None = None
    """Loss of the first step."""
    start_penalty: float = 0.0
    """Of an explicit penalty before it: not 0 where weights are held at the middle of several trainings."""
    climbing: int | None = None
    """Step at which an explicit penalty was first found too large, and has been since."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def loss_text(point: dict[str, Any]) -> str:
    """The loss of a point of a curve, for people; a dash before the first step."""
    return f"{point['loss']:.3f}" if "loss" in point else "-"


def kept_accuracy(result: dict[str, Any]) -> float | None:
    """Of the weights that a training kept, on its validation rows; None where nothing was measured."""
    found: float | None = (result.get("chosen") or {}).get("accuracy")
    return found


def learning_rate(train: TrainConfig, step: int, total: int) -> float:
    """The rate of step `step` of `total`: linear warm-up, then linear, cosine or constant.

    It depends on the step alone, so a resumed training needs no scheduler state.
    """
    peak = value_at(train.lr, step / total)
    warm = max(1, round(train.warmup * total))
    if step < warm:
        return peak * (step + 1) / warm
    progress = (step - warm) / max(1, total - warm)
    match train.lr_schedule:
        case "linear":
            return peak * (1 - progress)
        case "cosine":
            return peak * 0.5 * (1 + math.cos(math.pi * progress))
        case "constant":
            return peak
