"""One increment of continual learning: what holds the old, what learns the new, and what is good enough.

Methods and their sources: docs/updates.md.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tutelage.config.base import DefaultType, Fraction, Positive, Section
from tutelage.config.models import FullFinetune, Method, TeacherConfig
from tutelage.config.train import TrainConfig

NotNegative = Annotated[float, Field(ge=0)]
Strength = NotNegative | Literal["auto"]


class _Held(Section):
    """What penalties share."""

    strength: Strength = "auto"
    """Lambda: the mean curvature that the penalty adds for each earlier training. `auto` starts at `stiffest`
    and relaxes until the new data is learned about as well as without a penalty."""
    stiffest: float = Field(default=1000.0, gt=0)
    """`auto`: lambda of the first attempt."""
    relax: float = Field(default=0.1, gt=0, lt=1)
    """`auto`: factor from one attempt to the next."""
    attempts: int = Field(default=4, ge=1, le=12)
    """`auto`: most attempts; the last one is taken where none is good enough."""
    tolerance: Fraction = 0.02
    """`auto`: validation accuracy on the new data may be so much below plain fine-tuning."""
    step: Literal["proximal", "explicit"] = "proximal"
    """`proximal` pulls weights back after the optimiser's step, stable for any lambda; `explicit` adds the
    penalty's gradient, which oscillates or diverges where it is too stiff for the learning rate."""


class _Measured(_Held):
    """What penalties share whose importance is measured after a training."""

    examples: Positive = 2000
    """Importance is measured on at most so many training examples."""


class _Fisher(_Measured):
    fisher: Literal["auto", "exact", "sampled", "empirical"] = "auto"
    """Labels of the Fisher information: all of them, one drawn from the model, or the data's own. `auto` is
    exact up to 32 classes, else sampled."""


class EWC(_Fisher):
    """Elastic weight consolidation: a quadratic for each earlier training (arXiv:1612.00796)."""

    type: Literal["ewc"]


class OnlineEWC(_Fisher):
    """One running quadratic around the newest weights (arXiv:1805.06370)."""

    type: Literal["online-ewc"] = "online-ewc"
    gamma: Fraction = 0.9
    """What is left of earlier importance after each training."""


class KFAC(_Fisher):
    """Online EWC with Kronecker blocks for linear layers: directions instead of single weights
    (arXiv:1805.07810). Needs zero_stage 0 and no adapters, since it works on whole weights."""

    type: Literal["kfac"]
    gamma: Fraction = 0.9
    """What is left of earlier importance after each training."""


class SI(_Held):
    """Synaptic intelligence: importance gathered along the training (arXiv:1703.04200). What was trained
    before the first update has no path; its importance is that of `ewc`."""

    type: Literal["si"]
    xi: float = Field(default=1e-3, gt=0)
    """Keeps weights that hardly moved from counting without bound."""
    examples: Positive = 2000
    """As for `ewc`, for what has no path."""


class MAS(_Measured):
    """Memory-aware synapses: how much the outputs depend on each weight (arXiv:1711.09601)."""

    type: Literal["mas"]


class L2(_Held):
    """Every weight is held alike, where the last version left it."""

    type: Literal["l2"]


Regulariser = Annotated[EWC | OnlineEWC | KFAC | SI | MAS | L2, Field(discriminator="type")]


class Distil(Section):
    """Distillation across time: the version before is one more teacher (LwF, arXiv:1606.09282)."""

    weight: NotNegative = 1.0
    """Factor of this term; it is heard on new and replayed texts, for the classes that it knows."""
    temperature: float = Field(default=2.0, gt=0)
    """Logits are divided by it before the softmax."""


class Replay(Section):
    """A bounded memory of earlier texts, part of every version."""

    type: Literal["reservoir", "balanced", "loss-aware"] = "reservoir"
    """Which texts stay: any with the same chance, as many of each slice and class, or rather those that the
    model finds hard."""
    kilobytes: Positive = 512
    """Largest size of all its rows together."""
    share: float = Field(default=0.5, ge=0, lt=1)
    """Share of replayed texts among those of a training."""
    logits: NotNegative = 0.5
    """Factor of the squared distance from the logits that the version gave when a text came in (DER++,
    arXiv:2004.07211); 0 keeps none."""


class ForgettingGate(Section):
    """What an update must not lose, and must gain."""

    max_forgetting: Fraction = 0.02
    """Largest fall of the accuracy on any earlier slice."""
    min_gain: float = Field(default=0.0, ge=-1, le=1)
    """Smallest rise of the accuracy on the new data's slices together; not asked of slices without labels."""


class UpdateConfig(Section):
    """`tutelage update`: how a version learns from new data. With it, exports carry what that needs."""

    regulariser: Annotated[Regulariser, DefaultType("online-ewc")] | None = OnlineEWC()
    """Holds important weights; null holds none."""
    distil: Distil | None = Distil()
    """Listen to the version before; null does not."""
    replay: Replay | None = Replay()
    """Learn earlier texts again; null keeps none."""
    teachers: list[TeacherConfig] = Field(default=[])
    """Teachers for the new data beside the version before; needed where it has no labels."""
    labels: NotNegative = 1.0
    """Factor of the cross-entropy with labels of new and replayed texts."""
    grow: bool = False
    """New data may bring labels that the task does not have yet: the head gets a class for each."""
    compete: Literal["all", "own"] = "all"
    """`own`: the classes of one training are told apart among themselves alone, in training and judging: the
    task-incremental scenario, where whoever asks the version knows which training's classes are meant."""
    head: Literal["trained", "nearest-mean"] = "trained"
    """`nearest-mean` puts the mean features of each class in place of the trained head, as a linear layer:
    the means are of new and replayed texts (iCaRL, arXiv:1611.07725, without its normalisation)."""
    method: Method = FullFinetune()
    """Which weights an update trains. With `lora` the penalty is on the merged weights."""
    train: TrainConfig = TrainConfig(epochs=2, lr=1e-4)
    gate: ForgettingGate = ForgettingGate()
    holdout: Positive = 500
    """Each version keeps at most so many test rows and as many validation rows of each slice, to measure what
    is forgotten."""
    watch: int = Field(default=100, ge=0)
    """So many validation rows of an earlier slice are looked at, at the start and at each evaluation
    (train.evaluate_every), to see how deep it falls on the way; 0 looks at none."""
    force: bool = False
    """Do it although it is known to fail: growing classes with a penalty alone forgets the old ones."""

    @model_validator(mode="after")
    def _something_keeps_old_classes(self) -> UpdateConfig:
        names = [teacher.name for teacher in self.teachers]
        if CHAMPION in names:
            raise ValueError(f"teachers: '{CHAMPION}' is the version before; choose another name")
        unmade = next((teacher.name for teacher in self.teachers if teacher.finetune), None)
        if unmade is not None:
            raise ValueError(
                f"teachers.{unmade}.finetune: an update trains no teachers; name a model that does the task"
            )
        if self.compete == "own" and self.teachers:
            raise ValueError("compete own with teachers: they know no groups; leave one of both out")
        alone = self.replay is None and (self.distil is None or self.distil.weight == 0)
        if self.grow and alone and self.regulariser is not None and not self.force:
            raise ValueError(
                f"grow with regulariser '{self.regulariser.type}' alone forgets the old classes (20 % on "
                "split MNIST, which is its last task: arXiv:1904.07734); keep replay or distil, or set force"
            )
        if isinstance(self.regulariser, KFAC) and (self.train.zero_stage or self.method.type == "lora"):
            raise ValueError(
                "regulariser kfac holds whole weights: set train.zero_stage to 0, no lora, or use online-ewc"
            )
        if isinstance(self.regulariser, SI) and self.method.type == "lora":
            raise ValueError("regulariser si gathers a path of whole weights, which lora does not move")
        if self.head == "nearest-mean" and self.replay is None:
            raise ValueError("head nearest-mean needs texts of every class, so it needs replay")
        return self


CHAMPION = "champion"
"""What the version before is called among the teachers of an update."""
