"""Trainings of a tiny student on plain torch, with scripted teachers. Shapes: N examples."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor

from actors.channel import TeacherChannel
from actors.losses import asker
from actors.replica import LocalReplica
from actors.stream import SignalStream
from actors.teacher import Scorer, ScriptedTeacher
from actors.trainer import Trainer
from actors.training import Training, TrainState
from actors.world import Solo, World
from tests.unit.data_samples import job
from tests.unit.torch_engine import TorchEngine
from tutelage.config.models import FullFinetune
from tutelage.config.objectives import KL, CrossEntropy, Uniform
from tutelage.config.runtime import StreamConfig
from tutelage.config.task import SequenceClassification
from tutelage.config.train import TrainConfig
from tutelage.data.examples import Examples
from tutelage.data.rows import read_rows
from tutelage.data.tokens import tokenise
from tutelage.models.load import load_classifier
from tutelage.signals.spec import PayloadSpec
from tutelage.signals.store import MemoryStore, SignalStore
from tutelage.testing import LABELS, tiny_classifier, tiny_rows

HARD: list[Any] = [CrossEntropy(type="cross-entropy")]
SOFT: list[Any] = [KL(type="kl"), CrossEntropy(type="cross-entropy", weight=0.5)]
DENSE = PayloadSpec("dense", len(LABELS))
TRAIN_ROWS = 43
"""No multiple of the batch size, so the last batch of an epoch is short."""


@dataclass(frozen=True)
class Tiny:
    """A student with its tokenised rows: `books` has labels, `shop` has none."""

    folder: Path
    student: str
    examples: str

    def model(self, dropout: float = 0.0) -> Any:
        """The student as it is loaded for a training; everybody has a model of their own."""
        return copy.deepcopy(_loaded(self.student, dropout))


@cache
def _loaded(folder: str, dropout: float) -> Any:
    return load_classifier(folder, list(LABELS), dropout=dropout)


def make(folder: Path) -> Tiny:
    """Write the student and the rows."""
    student = tiny_classifier(folder / "student", layers=1, hidden=8, seed=1)
    files = tiny_rows(folder / "rows", 40)
    splits = {"validation": 10, "test": 0}
    sources = {
        "books": {"path": files["books"], "splits": {**splits, "train": 25}},
        "shop": {"path": files["shop"], "columns": {"label": None}, "splits": {**splits, "train": 18}},
    }
    rows = read_rows(job(sources, labels=LABELS), folder)
    return Tiny(folder, student, str(tokenise(rows, student, 16, folder)))


@dataclass
class Kept:
    """The twin of the keeper: every checkpoint in memory."""

    engine: Any = None
    progress_steps: list[int] = field(default_factory=list)
    checkpoints: list[tuple[TrainState, dict[str, Tensor] | None, dict[str, Any]]] = field(
        default_factory=list
    )

    def progress(self, state: TrainState, total: int) -> None:
        self.progress_steps.append(state.step)

    def checkpoint(self, state: TrainState, best: dict[str, Tensor] | None) -> None:
        self.checkpoints.append((copy.deepcopy(state), copy.deepcopy(best), self.engine.state()))


@dataclass
class Session:
    """A trainer with all that stands around it."""

    trainer: Trainer
    engine: TorchEngine
    kept: Kept
    stream: SignalStream
    state: TrainState = field(default_factory=TrainState)

    def run(self) -> dict[str, Tensor]:
        """Train to the end; the chosen weights."""
        return self.trainer.run(self.state)

    @property
    def losses(self) -> list[float]:
        return [point["loss"] for point in self.state.points]


def training(tiny: Tiny, **changes: Any) -> Training:
    """A training of the tiny student: hard labels, 2 epochs of batches of 8."""
    whole = Training(
        run="tiny-run",
        base=tiny.student,
        tokenizer=tiny.student,
        task=SequenceClassification(labels=list(LABELS)),
        layers=None,
        method=FullFinetune(),
        train=TrainConfig(batch_size=8, lr=1e-3, epochs=2),
        objectives=HARD,
        combiner=Uniform(),
        stream=StreamConfig(window=3),
        examples=tiny.examples,
        picks=None,
        slices=None,
        seed=5,
        storage="",
        output="",
    )
    return replace(whole, **changes)


def opinion(text: str, sure: float = 2.0) -> list[float]:
    """Logits of a teacher that reads the cues of the text."""
    votes = text.count("positive") - text.count("negative")
    return [-sure * votes, sure * votes]


def session(
    tiny: Tiny,
    *,
    teachers: dict[str, Callable[[str], list[float]] | Scorer] | None = None,
    stores: dict[str, SignalStore] | None = None,
    world: World | None = None,
    dropout: float = 0.0,
    train: dict[str, Any] | None = None,
    model: Any = None,
    follow: bool = False,
    **changes: Any,
) -> Session:
    """A trainer of the tiny student on the twin engine; `train` changes the section of the same name."""
    teachers = teachers or {}
    section = TrainConfig(**({"batch_size": 8, "lr": 1e-3, "epochs": 2} | (train or {})))
    plan = training(tiny, train=section, payloads=dict.fromkeys(teachers, DENSE), **changes)
    channels = []
    for name, teacher in teachers.items():
        scorer = teacher if hasattr(teacher, "score") else ScriptedTeacher(teacher, name)
        channels.append(TeacherChannel(name, [LocalReplica(scorer)], DENSE, plan.stream))
    kept_signals: dict[str, SignalStore] = stores or {name: MemoryStore() for name in teachers}
    examples = Examples.open(tiny.examples)
    stream = SignalStream(channels, kept_signals, plan.stream, asker(plan, examples))
    model = tiny.model(dropout) if model is None else model
    engine = TorchEngine(model, section, world if world and world.size > 1 else None)
    kept = Kept(engine)
    trainer = Trainer(plan, engine, examples, stream, world or Solo(), kept, pad_id=0, follow=follow)
    return Session(trainer, engine, kept, stream)
