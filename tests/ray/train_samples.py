"""A tiny distillation, gates that stop a student at a known point, and a board that forgets nothing."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray

from actors.board import Post, RayBoard
from actors.distill import student_training, teacher_specs
from actors.fleet import Fleet
from actors.replica import Pending, Replica
from actors.student import fit_all
from actors.teacher import TeacherSpec
from actors.training import Training
from actors.workspace import Workspace, open_workspace
from tutelage.config import JobConfig
from tutelage.config.models import TeacherConfig
from tutelage.progress import Silent
from tutelage.signals.exchange import Request
from tutelage.testing import tiny_classifier, tiny_rows

STEPS_PER_EPOCH, KEEP_EVERY = 20, 5


def workspace(folder: Path) -> Workspace:
    """160 train rows and two random teachers, of which one counts its classes the other way round."""
    files = tiny_rows(folder / "data", 200, ["books"])
    teachers = [
        {"name": "one", "model": tiny_classifier(folder / "one", seed=1), "num_cpus": 0.1},
        {
            "name": "two",
            "model": tiny_classifier(folder / "two", ("positive", "negative"), seed=2),
            "num_cpus": 0.1,
        },
    ]
    job = {
        "name": "tiny",
        "task": {"labels": ["negative", "positive"]},
        "data": {
            "max_tokens": 24,
            "sources": {"books": {"path": files["books"], "splits": {"validation": 20, "test": 20}}},
        },
        "teachers": teachers,
        "student": {"model": tiny_classifier(folder / "student", seed=3)},
        "objectives": [{"type": "kl"}, {"type": "cross-entropy", "weight": 0.5}],
        "train": {
            "epochs": 2,
            "batch_size": 8,
            "micro_batch_size": 4,
            "lr": 5e-3,
            "dropout": 0.0,
            "precision": "fp32",
            "threads": 1,
            "cpus_per_worker": 0.5,
            "checkpoint_every": KEEP_EVERY,
        },
        "stream": {"window": 2, "deadline_s": 60},
    }
    return open_workspace(JobConfig.model_validate(job), folder / "home", Silent())


def training(space: Workspace, run: str, *, signals: str | None = None, **train: Any) -> Training:
    """The student's training as a run of its own; `signals` names the stores, new ones by default."""
    made = student_training(space, teacher_specs(space, {}), run, str(space.home), {})
    stores = {name: str(space.home / "signals" / (signals or run) / name) for name in made.stores}
    section = type(made.train).model_validate({**made.train.model_dump(), **train})
    return replace(made, train=section, stores=stores)


def fleet(space: Workspace, **replicas: int) -> Fleet:
    """The teachers of the workspace, each with so many replicas (1)."""
    return Fleet(
        [
            (spec, config.model_copy(update={"replicas": replicas.get(spec.name, 1)}))
            for spec, config in zip(teacher_specs(space, {}), space.job.teachers, strict=True)
        ]
    )


class Recorder:
    """A board that keeps every post."""

    def __init__(self) -> None:
        self._posts: list[Post] = []

    def post(self, topic: str, post: Post) -> None:
        """Keep it."""
        self._posts.append({**post, "topic": topic})

    def read(self) -> list[Post]:
        """All posts so far."""
        return self._posts


class Gate:
    """Stops who passes for the `stop_at`-th time, says which process that is, and later lets all go on."""

    def __init__(self, stop_at: int) -> None:
        self._stop_at, self._passed, self._pid = stop_at, 0, 0
        self._stopped, self._open = threading.Event(), threading.Event()

    def go(self, pid: int) -> None:
        """Return at once, or when the gate is opened."""
        self._passed += 1
        if self._passed >= self._stop_at and not self._open.is_set():
            self._pid = pid
            self._stopped.set()
            self._open.wait()

    def stopped(self) -> int:
        """Wait for somebody to be stopped; gives the process."""
        self._stopped.wait()
        return self._pid

    def open(self) -> None:
        """Let everybody go on."""
        self._open.set()


@dataclass
class GatedReplica:
    """A replica that is asked through a gate."""

    inner: Replica
    gate: Any

    @property
    def name(self) -> str:
        """The replica's name."""
        return self.inner.name

    def ask(self, request: Request) -> Pending:
        """Pass the gate, then ask."""
        ray.get(self.gate.go.remote(os.getpid()))
        return self.inner.ask(request)


@dataclass
class Disturbed:
    """A training that is stopped once, so that something can be done to it."""

    result: dict[str, Any]
    first_posts: list[Post]
    """What the board heard before the disturbance."""
    later_posts: list[Post]


def disturb(
    work: Training, teachers: Fleet, stop_at: int, do: Callable[[int], None], gated: str = "one"
) -> Disturbed:
    """Fit; when the student asks teacher `gated` for the `stop_at`-th time, `do(pid of the student)`."""
    gate = ray.remote(Gate).options(num_cpus=0, max_concurrency=16).remote(stop_at)
    recorder = ray.remote(Recorder).options(num_cpus=0).remote()
    replicas = {
        name: [GatedReplica(one, gate) if name == gated else one for one in found]
        for name, found in teachers.replicas.items()
    }
    with ThreadPoolExecutor(1) as pool:
        fitting = pool.submit(fit_all, {"it": work}, replicas, RayBoard(recorder))
        try:
            pid = ray.get(gate.stopped.remote(), timeout=90)
            first = ray.get(recorder.read.remote())
            do(pid)
        finally:
            gate.open.remote()
        result = fitting.result(timeout=180)["it"]
    posts = ray.get(recorder.read.remote())
    for actor in (gate, recorder):
        ray.kill(actor)
    return Disturbed(result, first, posts[len(first) :])


@contextmanager
def running(made: Fleet) -> Any:
    """The fleet, stopped afterwards."""
    try:
        yield made
    finally:
        made.stop()


def curve(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The points without what depends on the clock (nothing does)."""
    points: list[dict[str, Any]] = result["points"]
    return points


__all__ = ["TeacherConfig", "TeacherSpec"]
