"""Whole jobs of every task in one process: workspace, teachers, stream, trainer on the twin engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from actors.channel import TeacherChannel
from actors.distill import student_training, teacher_specs
from actors.losses import asker
from actors.replica import LocalReplica
from actors.stream import SignalStream
from actors.teacher import Teacher
from actors.trainer import Trainer
from actors.training import Training, TrainState
from actors.workspace import Workspace, open_workspace
from actors.world import Solo
from tests.unit.torch_engine import TorchEngine
from tests.unit.training_samples import Kept
from tutelage.config import JobConfig
from tutelage.data.examples import Examples
from tutelage.models.load import load_tokenizer, prepare_for_training
from tutelage.progress import Silent
from tutelage.signals.store import MemoryStore
from tutelage.tasks import build_task
from tutelage.testing import TAGS, tiny_model, tiny_task_rows

TASKS: dict[str, dict[str, Any]] = {
    "sequence-classification": {"type": "sequence-classification", "labels": ["negative", "positive"]},
    "token-classification": {"type": "token-classification", "labels": list(TAGS)},
    "question-answering": {"type": "question-answering"},
    "causal-lm": {"type": "causal-lm", "completion_only": True},
}


def task_space(folder: Path, task: str, *, teachers: int = 2, rows: int = 60, **sections: Any) -> Workspace:
    """A job with random teachers; the student is one of another seed."""
    kind: Any = task
    files = tiny_task_rows(folder / "data", kind, rows, ["books"])
    source: dict[str, Any] = {"path": files["books"], "splits": {"validation": 10, "test": 10}}
    if task == "causal-lm":
        source["columns"] = {"prompt": "prompt", "completion": "completion"}
    named: list[Any] = [
        {"name": f"t{n}", "model": tiny_model(folder / f"t{n}", kind, seed=n)} for n in range(teachers)
    ]
    overrides = sections.pop("payload", None)
    for teacher in named:
        if overrides:
            teacher["payload"] = overrides
    job = {
        "name": "tiny",
        "seed": 3,
        "task": TASKS[task],
        "data": {"sources": {"books": source}, "max_tokens": 40},
        "teachers": named,
        "student": {"model": tiny_model(folder / "student", kind, layers=1, seed=9)},
        "objectives": [{"type": "kl", "temperature": 1}],
        "train": {"epochs": 2, "batch_size": 8, "lr": 1e-2, "dropout": 0, "precision": "fp32"},
        "stream": {"window": 3},
    }
    return open_workspace(JobConfig.model_validate(job | sections), folder / "home", Silent())


@dataclass
class Run:
    """A training with everything around it."""

    training: Training
    trainer: Trainer
    engine: TorchEngine
    stream: SignalStream
    kept: Kept
    state: TrainState = field(default_factory=TrainState)

    def go(self) -> dict[str, Tensor]:
        """Train to the end."""
        return self.trainer.run(self.state)

    @property
    def losses(self) -> list[float]:
        return [point["loss"] for point in self.state.points]


def task_run(space: Workspace, measured: dict[str, dict[str, float]] | None = None, **train: Any) -> Run:
    """The student's training of a workspace, nothing trained yet."""
    specs = teacher_specs(space, {})
    plan = student_training(space, specs, "run", str(space.home), measured or {})
    section = plan.train.model_validate({**plan.train.model_dump(), **train})
    plan = Training(**{**vars(plan), "train": section})
    task = build_task(plan.task)
    model = prepare_for_training(task.load(plan.base, dropout=0.0), plan.method, plan.layers)
    engine = TorchEngine(model, section)
    examples = Examples.open(plan.examples)
    channels = [
        TeacherChannel(spec.name, [LocalReplica(Teacher(spec))], plan.payloads[spec.name], plan.stream)
        for spec in specs
    ]
    stores: Any = {spec.name: MemoryStore() for spec in specs}
    stream = SignalStream(channels, stores, plan.stream, asker(plan, examples))
    tokenizer = load_tokenizer(plan.tokenizer)
    kept = Kept(engine)
    trainer = Trainer(
        plan,
        engine,
        examples,
        stream,
        Solo(),
        kept,
        pad_id=tokenizer.pad_token_id or 0,
        end_id=tokenizer.eos_token_id,
    )
    return Run(plan, trainer, engine, stream, kept)
