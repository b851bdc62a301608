"""A tiny distillation, and a way to stop it at a known point and do something to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray

from actors.board import RayBoard
from actors.distill import student_training, teacher_specs
from actors.fleet import Fleet
from actors.members import Fleets
from actors.student import fit_all
from actors.training import Training
from actors.workspace import Workspace, open_workspace
from tests.ray.gates import Gate, GatedMembers
from tutelage.config import JobConfig
from tutelage.progress import Silent
from tutelage.testing import tiny_classifier, tiny_rows

STEPS_PER_EPOCH, KEEP_EVERY = 20, 5


def workspace(folder: Path) -> Workspace:
    """160 train rows and two random teachers, of which one counts its classes the other way round."""
    files = tiny_rows(folder / "data", 200, ["books"])
    teachers: list[dict[str, Any]] = [
        {"name": "one", "model": tiny_classifier(folder / "one", seed=1)},
        {"name": "two", "model": tiny_classifier(folder / "two", ("positive", "negative"), seed=2)},
    ]
    # Each replica is a process of its own, so that tests can kill one and leave the others.
    for teacher in teachers:
        teacher |= {"num_cpus": 0.1, "share_process": False}
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
            "cpus_per_worker": 0.3,
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
            (spec, config.model_copy(update={"min_replicas": replicas.get(spec.name, 1)}))
            for spec, config in zip(teacher_specs(space, {}), space.job.teachers, strict=True)
        ],
        space.job.stream.model_copy(update={"backoff_s": 0.2}),
    )


@dataclass
class Disturbed:
    """A training that is stopped once, so that something can be done to it."""

    result: dict[str, Any]
    first_posts: list[dict[str, Any]]
    """What the board heard before the disturbance."""
    later_posts: list[dict[str, Any]]


def disturb(work: Training, members: Fleets, stop_at: int, do: Callable[[int], None]) -> Disturbed:
    """Fit; when the student asks teacher `one` for the `stop_at`-th time, `do(pid of the student)`."""
    gate = ray.remote(Gate).options(num_cpus=0, max_concurrency=16).remote(stop_at)
    gated = {**members, "one": GatedMembers(members["one"], gate)}
    with ThreadPoolExecutor(1) as pool:
        fitting = pool.submit(fit_all, {"it": work}, gated, RayBoard(gate))
        try:
            pid = ray.get(gate.stopped.remote(), timeout=150)
            first = ray.get(gate.read.remote())
            do(pid)
            ray.get(gate.open.remote())
            result = fitting.result(timeout=250)["it"]
            posts = ray.get(gate.read.remote())
        finally:
            ray.kill(gate)
    return Disturbed(result, first, posts[len(first) :])


@contextmanager
def running(made: Fleet) -> Iterator[Fleet]:
    """The fleet, stopped afterwards."""
    try:
        yield made
    finally:
        made.stop()
