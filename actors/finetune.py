"""Fine-tuning: each teacher of a job that has a `finetune` section becomes a model folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from actors.board import RayBoard
from actors.fitting import tokenizer_of
from actors.judge_student import judge_student
from actors.student import fit_all
from actors.tally import Scores
from actors.training import Training, kept_accuracy, loss_text
from actors.workspace import Workspace, finetune_run, finished, forget
from tutelage.config.models import TeacherConfig
from tutelage.config.objectives import CrossEntropy, Uniform
from tutelage.data.examples import Examples
from tutelage.errors import TrainError
from tutelage.files import atomic_write
from tutelage.holder import Fence
from tutelage.progress import Progress, Stage

JUDGEMENT = "judgement.json"
"""In a teacher's run: what it is worth on the test rows of its own sources."""


@dataclass(frozen=True)
class Finetuned:
    """A teacher that was trained here."""

    run: str
    folder: Path
    result: dict[str, Any]
    reused: bool
    """The run was done already."""


def finetune_plan(space: Workspace, only: list[str] | None = None) -> list[tuple[TeacherConfig, str, bool]]:
    """Each teacher to fine-tune, its run id, and whether that run is done already."""
    teachers = [t for t in space.job.teachers if t.finetune and (only is None or t.name in only)]
    return [(t, run, finished(space, run) is not None) for t in teachers for run in [finetune_run(space, t)]]


def finetune(
    space: Workspace, ui: Progress, *, storage: str, only: list[str] | None = None, fresh: bool = False
) -> dict[str, Finetuned]:
    """Train the teachers, as many at a time as the cluster's CPUs hold; done runs are reused.

    Needs a connected Ray. Raises TrainError.
    """
    done: dict[str, Finetuned] = {}
    todo: dict[str, Training] = {}
    for teacher, run, ready in finetune_plan(space, only):
        if fresh:
            forget(space, run)
        if ready and not fresh:
            result = finished(space, run) or {}
            done[teacher.name] = Finetuned(run, space.runs / run / "model", result, reused=True)
        else:
            training = training_of(space, teacher, run, storage)
            todo[teacher.name] = replace(training, fence=Fence.of(space.runs, run))
    if not todo:
        return done
    with ui.stage("finetune") as stage:
        for name in done:
            stage.note(f"{name}: done before, reused")
        board = RayBoard.start()
        try:
            with board.watch(lambda posts: _show(stage, todo, posts)):
                results = fit_all(todo, {}, board, stage, space.job.ray.patience_s)
        finally:
            board.stop()
        for name, result in results.items():
            stage.note(f"{name}: {_outcome(result)}")
            done[name] = Finetuned(todo[name].run, Path(todo[name].output), result, reused=False)
    return {teacher.name: done[teacher.name] for teacher in space.job.teachers if teacher.name in done}


def judge_made(space: Workspace, made: dict[str, Finetuned], ui: Progress) -> dict[str, Scores]:
    """Each made teacher on the labelled test rows of its own sources; what is known is not measured again."""
    found: dict[str, Scores] = {}
    with ui.stage("judge") as stage:
        for teacher in space.job.teachers:
            if teacher.name not in made or teacher.finetune is None:
                continue
            one = made[teacher.name]
            path = one.folder.parent / JUDGEMENT
            if path.exists():
                scores = Scores.from_json(json.loads(path.read_text()))
            else:
                tokenizer = tokenizer_of(teacher.tokenizer, space.bases[teacher.name], space.home)
                examples = Examples.open(space.tokens_of(tokenizer))
                own = list(teacher.finetune.data)
                scores = judge_student(space, one.folder, examples, own).scores()
                with atomic_write(path) as file:
                    json.dump(asdict(scores), file)
            found[teacher.name] = scores
            stage.note(f"{teacher.name}: {scores.words()}")
    return found


def finished_teachers(space: Workspace) -> dict[str, Finetuned]:
    """The teachers that were made here; raises TrainError for one that was not."""
    made = {}
    for teacher, run, _ in finetune_plan(space):
        result = finished(space, run)
        if result is None:
            raise TrainError(
                f"teacher '{teacher.name}' of {space.job.name} is not trained yet",
                fix="run `tutelage distill` with the same job and overrides first",
            )
        made[teacher.name] = Finetuned(run, space.runs / run / "model", result, reused=True)
    return made


def training_of(space: Workspace, teacher: TeacherConfig, run: str, storage: str) -> Training:
    """The training that makes a teacher: hard labels of its own sources."""
    assert teacher.finetune is not None
    base = space.bases[teacher.name]
    tokenizer = tokenizer_of(teacher.tokenizer, base, space.home)
    return Training(
        run=run,
        base=base.folder,
        tokenizer=tokenizer,
        task=space.job.task,
        layers=None,
        method=teacher.finetune.method,
        train=teacher.finetune.train,
        objectives=[CrossEntropy(type="cross-entropy")],
        combiner=Uniform(),
        stream=space.job.stream,
        examples=str(space.tokens_of(tokenizer)),
        picks=teacher.finetune.data,
        slices=list(teacher.finetune.data),
        seed=space.job.seed,
        storage=f"{storage}/runs",
        output=str(space.runs / run / "model"),
    )


def _show(stage: Stage, trainings: dict[str, Training], posts: dict[str, dict[str, Any]]) -> None:
    said = [posts[t.run] for t in trainings.values() if t.run in posts]
    if said:
        total = sum(post["total"] for post in said) * len(trainings) / len(said)
        losses = {n: loss_text(posts[t.run]["point"]) for n, t in trainings.items() if t.run in posts}
        stage.update(sum(post["step"] for post in said), total, **losses)


def _outcome(result: dict[str, Any]) -> str:
    accuracy = kept_accuracy(result)
    judged = ", nothing to measure it on" if accuracy is None else f", {accuracy:.3f} on its validation rows"
    return f"{result['steps']} steps in {result['seconds']:.0f} s, {result['precision']}{judged}"
