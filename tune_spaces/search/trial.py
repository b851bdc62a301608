"""One trial: the same training loop as `distill`, in the process of the trial itself.

A student with one worker needs no worker group, so a trial starts in a fraction of a second where Ray Train
takes half a minute, and the next trial of the process finds its libraries loaded. All signals lie in the
store; nobody is asked.

After each evaluation a trial reports and leaves a checkpoint: it goes on from there when it is killed, and a
trial of `pbt` begins there anew with other values.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from actors.distill import student_training
from actors.on_demand import Scored
from actors.reasons import LASTING, out_of_memory, unreachable
from actors.teacher import TeacherSpec
from actors.training import Training, TrainState
from actors.workspace import Workspace
from tune_spaces.space import Space, job_at
from tutelage.config import JobConfig
from tutelage.errors import ConfigError, TrainError, TutelageError
from tutelage.files import beginning, filesystem

WORST = {"accuracy": 0.0, "loss": 1e9, "fidelity": 1e9}
"""What a trial that failed reports, so that schedulers and searchers have a number."""
STATE, BEST = "state.json", "best.safetensors"


@dataclass(frozen=True)
class Shared:
    """What all trials of a search know; it travels once to each process."""

    search: str
    space: Workspace
    searched: Space
    specs: list[TeacherSpec]
    measured: dict[str, dict[str, float]]
    scored: frozenset[tuple[str, str]]
    """(teacher, payload) whose signals are all in the store."""
    place: str = ""
    """Folder or URL where each trial has a folder of its name."""
    scorer: Any = None
    """Handle of the actor that scores for a trial with another payload."""
    follow: bool = False
    """Measure how closely students follow their teachers."""


@dataclass
class Lineage:
    """By which values the weights of a trial came about: one entry a stretch of the training."""

    stretches: list[dict[str, Any]] = field(default_factory=list)
    """`progress` at which it begins, `values` as labels, and the `trial` that trained it."""

    def begin(self, progress: float, trial: str, values: dict[str, Any]) -> None:
        """Another trial, or other values, take over here."""
        last = self.stretches[-1] if self.stretches else None
        if last is None or (last["trial"], last["values"]) != (trial, values):
            self.stretches.append({"progress": progress, "values": values, "trial": trial})

    @property
    def parent(self) -> str | None:
        """The trial whose weights were taken over last; None for weights of its own."""
        trials = [stretch["trial"] for stretch in self.stretches]
        return next((trial for trial in reversed(trials) if trial != trials[-1]), None)


def trial_job(job: JobConfig, searched: Space, point: dict[str, Any]) -> JobConfig:
    """The job of one trial: its point, and what a trial gets of time and cores. Raises ConfigError."""
    search, found = job.search, job_at(job, searched, point)
    train = found.train.model_dump()
    train |= {key: value for key, value in search.budget.model_dump().items() if value is not None}
    train |= {
        "workers": 1,
        "cpus_per_worker": search.cpus_per_trial,
        "gpus_per_worker": search.gpus_per_trial,
    }
    train["threads"] = max(1, round(search.cpus_per_trial))
    try:
        return found.model_copy(update={"train": type(found.train).model_validate(train)})
    except ValidationError as error:
        why = "; ".join(str(one["msg"]).removeprefix("Value error, ") for one in error.errors())
        raise ConfigError(
            f"a trial with search.cpus_per_trial and search.gpus_per_trial: {why}",
            fix="set search.gpus_per_trial, or train.precision",
        ) from None


def run_trial(config: dict[str, Any], shared: Shared) -> None:
    """What Ray Tune calls. A student that cannot be trained is a result, never a broken search.

    Only what may be well the next time (a place, a connection, a store, a lost teacher) is left for Tune to
    repeat: the searcher would take it for a bad point.
    """
    from ray import tune

    begin = time.monotonic()
    try:
        _train(config, shared, begin)
    except (TutelageError, RuntimeError, MemoryError, *LASTING) as error:
        if unreachable(error):
            raise
        tune.report({**WORST, "status": status_of(error), "error": _line(error), "progress": 100.0})


def status_of(error: BaseException) -> str:
    """`out-of-memory` or `failed`."""
    return "out-of-memory" if out_of_memory(error) else "failed"


def _line(error: BaseException) -> str:
    return " ".join(str(error.problem if isinstance(error, TutelageError) else error).split())[:500]


def _train(config: dict[str, Any], shared: Shared, begin: float) -> None:
    import torch
    from ray import tune

    from actors.engine import Engine, lone_group
    from actors.trainer import Trainer
    from actors.worker import open_stream, pick_precision, quiet
    from actors.world import Solo
    from tutelage.data.examples import Examples
    from tutelage.models.load import load_tokenizer
    from tutelage.models.padding import settle_padding

    quiet()
    lone_group()
    context: Any = tune.get_context()
    name = context.get_trial_id()
    training = training_of(shared, config, f"{shared.search}-{name}")
    torch.set_num_threads(training.train.threads or 1)
    examples = Examples.open(training.examples)
    stream = open_stream(training, {teacher: Scored(teacher) for teacher in training.payloads}, examples)
    torch.manual_seed(training.seed)
    model = training.model(training.train.dropout)
    engine = Engine(model, training.train, pick_precision(training.train.precision), 1)
    with _checkpoints(shared.place, name, tune.get_checkpoint()) as (given, own):
        start = go_on(engine, given, own, name, config)
    state, lineage, best = start.state, start.lineage, start.best
    tokenizer = load_tokenizer(training.tokenizer)
    keeper = TrialKeeper(engine, lineage, name, config)
    trainer = Trainer(
        training,
        engine,
        examples,
        stream,
        Solo(),
        keeper,
        pad_id=settle_padding(model, tokenizer),
        end_id=tokenizer.eos_token_id,
        follow=shared.follow,
    )
    keeper.start_s, keeper.total = time.monotonic() - begin, trainer.total
    over = state.step >= trainer.total or state.stopped_early
    if state.points and (start.unheard or over):
        # A driver that died may not have heard it; one that has takes it for the same report.
        tune.report(keeper.figures(state))
    if over:
        return
    lineage.begin(state.step / trainer.total, name, config)
    trainer.run(state, best)


def training_of(shared: Shared, config: dict[str, Any], run: str) -> Training:
    """The training of a trial, with evaluations and checkpoints at its reports.

    Raises ConfigError for a point that cannot be, and what scoring another payload raises.
    """
    import ray

    job = trial_job(shared.space.job, shared.searched, shared.searched.point(config))
    space = replace(shared.space, job=job)
    training = student_training(space, shared.specs, run, "", shared.measured)
    asked = {(teacher, spec.key) for teacher, spec in training.payloads.items()}
    if asked - shared.scored:
        ray.get(shared.scorer.ensure.remote(job))
    every = -(-steps_of(training) // job.search.reports)
    train = training.train.model_copy(update={"evaluate_every": every, "checkpoint_every": every})
    # A teacher that is missing here is a defect of the search, never a reason to go on without it.
    stream = training.stream.model_copy(update={"on_loss": "fail"})
    return replace(training, train=train, stream=stream)


def steps_of(training: Training) -> int:
    """Optimiser steps of a training."""
    from tutelage.data.examples import Examples

    rows = len(Examples.open(training.examples).select("train", training.picks))
    steps = training.train.epochs * -(-rows // training.train.batch_size)
    return max(1, min(steps, training.train.max_steps or steps))


class TrialKeeper:
    """Reports each evaluation to Tune, with a checkpoint."""

    def __init__(self, engine: Any, lineage: Lineage, trial: str, values: dict[str, Any]) -> None:
        self._engine, self._lineage, self._trial, self._values = engine, lineage, trial, values
        self.start_s = 0.0
        self.total = 1

    def progress(self, state: TrainState, total: int) -> None:
        """Nothing: a step is too little to tell a search."""

    def checkpoint(self, state: TrainState, best: dict[str, Any] | None) -> None:
        """Save, and report what the weights are worth that would be kept."""
        from ray import tune
        from safetensors.torch import save_file

        with tempfile.TemporaryDirectory(prefix="tutelage-") as name:
            folder = Path(name)
            self._engine.save(folder)
            if best is not None:
                save_file(best, folder / BEST)
            kept = {"state": state.to_json(), "lineage": self._lineage.stretches}
            (folder / STATE).write_text(json.dumps(kept))
            tune.report(self.figures(state), checkpoint=tune.Checkpoint.from_directory(folder))

    def figures(self, state: TrainState) -> dict[str, Any]:
        """What is reported: of the weights that a training which ended here would keep."""
        measured = state.chosen or {}
        goals = {"accuracy": "accuracy", "loss": "validation_loss", "fidelity": "fidelity"}
        return {
            **{goal: measured[name] for goal, name in goals.items() if name in measured},
            "status": "ran",
            "step": state.step,
            "progress": 100.0 if state.stopped_early else 100 * state.step / self.total,
            "seconds": state.seconds,
            "start_s": self.start_s,
            "lineage": json.dumps(self._lineage.stretches),
            "parent": self._lineage.parent or "",
        }


@dataclass
class Start:
    """Where a trial begins."""

    state: TrainState = field(default_factory=TrainState)
    lineage: Lineage = field(default_factory=Lineage)
    best: dict[str, Any] | None = None
    unheard: bool = False
    """Tune does not know of it, so its report may be lost."""


def go_on(engine: Any, given: str | None, own: list[str], name: str, values: dict[str, Any]) -> Start:
    """Take up a checkpoint, as Tune wants it or newer.

    Trials that were still running while the driver was already dead have left checkpoints that its snapshot
    does not know, and may have removed the one that it names. So a trial's own newest whole one goes first;
    another trial's weights or other values, which `pbt` gives, come from Tune alone.

    Args:
        engine: its weights and optimiser state are set.
        given: folder of the checkpoint that Tune names.
        own: folders of the checkpoints that the trial itself has left, the newest first.
        name: of the trial.
        values: of the trial, as labels.
    """
    foreign = given is not None and not _mine(given, name, values)
    tried = [given] if given and foreign else [*own, *([given] if given else [])]
    for folder in tried:
        try:
            start = _take(engine, Path(folder))
            start.unheard = folder != given and start.state.step > _step(given)
            return start
        except (OSError, ValueError, KeyError, RuntimeError, TutelageError):
            continue  # a write that was cut short; an older one is whole
    if foreign:
        raise TrainError(
            f"trial {name}: the weights that it was to take over cannot be read", fix="repeat the command"
        )
    return Start()


def _step(folder: str | None) -> int:
    try:
        return int(json.loads((Path(folder or "") / STATE).read_text())["state"]["step"])
    except (OSError, ValueError, LookupError):
        return 0


def _mine(folder: str, name: str, values: dict[str, Any]) -> bool:
    try:
        last = json.loads((Path(folder) / STATE).read_text())["lineage"][-1]
    except (OSError, ValueError, LookupError):
        return True
    return (last["trial"], last["values"]) == (name, values)


def _take(engine: Any, folder: Path) -> Start:
    from safetensors.torch import load_file

    kept = json.loads((folder / STATE).read_text())
    best = load_file(folder / BEST) if (folder / BEST).exists() else None
    engine.load(folder)
    return Start(TrainState(**kept["state"]), Lineage(kept["lineage"]), best)


@contextmanager
def _checkpoints(place: str, name: str, given: Any) -> Iterator[tuple[str | None, list[str]]]:
    """Folders on this machine of Tune's checkpoint and of the trial's own, the newest first."""
    files, path = filesystem(f"{place}/{name}")
    own = beginning(files, path, "checkpoint_")[::-1]
    with tempfile.TemporaryDirectory(prefix="tutelage-") as scratch:
        here = []
        for number, one in enumerate(own[:2]):
            target = f"{scratch}/{number}"
            with suppress(OSError):  # Tune may be removing it
                files.get(one, target, recursive=True)
                here.append(target)
        there: str | None = None
        if given is not None:
            with suppress(OSError):  # removed since Tune wrote it down
                there = given.to_directory(f"{scratch}/given")
        yield there, here
