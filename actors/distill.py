"""Distillation: the teachers become a fleet, their signals stream to the student's workers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from actors.board import RayBoard
from actors.evaluate import Asked, Judgement, judge_teachers, judgeable, measure_teachers
from actors.finetune import Finetuned
from actors.fitting import tokenizer_of
from actors.fleet import Fleet, threads_of
from actors.judge_student import judge_student
from actors.live import teacher_table, views_of
from actors.payloads import planned, signal_folders
from actors.remote.setup import check_payload, remote_spec
from actors.speeds import remember
from actors.student import fit_all
from actors.teacher import TeacherSpec
from actors.training import Training, loss_text
from actors.workspace import Workspace, distill_run, finished, forget
from tutelage.config.models import TeacherConfig
from tutelage.config.objectives import Validated
from tutelage.data.catalog import resolve_model
from tutelage.errors import TrainError
from tutelage.files import atomic_write
from tutelage.holder import Fence
from tutelage.models.describe import describe, teacher_label_order
from tutelage.models.fingerprint import fingerprint
from tutelage.progress import Progress, Stage

LOAD_DEADLINE_S = 300.0
JUDGEMENT = "judgement.json"


@dataclass(frozen=True)
class Distilled:
    """A trained student and what is known of its teachers."""

    run: str
    folder: Path
    result: dict[str, Any]
    teachers: list[TeacherSpec]
    judgement: Judgement
    """Teachers, ensemble and combiner on the test rows, and the parity figure."""
    reused: bool


def teacher_specs(space: Workspace, finetuned: dict[str, Finetuned]) -> list[TeacherSpec]:
    """What the replicas of each teacher load, in the order of the job."""
    return [_spec(space, teacher, finetuned) for teacher in space.job.teachers]


def distill(
    space: Workspace, finetuned: dict[str, Finetuned], ui: Progress, *, storage: str, fresh: bool = False
) -> Distilled:
    """Train the student from the teachers, or go on where an interrupted run stopped.

    Needs a connected Ray. Raises TeacherError or TrainError.
    """
    specs = teacher_specs(space, finetuned)
    run = distill_run(space, {spec.name: spec.fingerprint for spec in specs})
    if fresh:
        forget(space, run)
    known = _known(space, run, specs)
    if known:
        return known
    folder, result = space.runs / run, finished(space, run)
    by_name = {teacher.name: teacher for teacher in space.job.teachers}
    fleet = Fleet([(spec, by_name[spec.name]) for spec in specs], space.job.stream)
    try:
        asked = Asked(space, judgeable(specs), fleet.members, space.signals)
        measured: dict[str, dict[str, float]] = {}
        if isinstance(space.job.combiner, Validated):
            with ui.stage("fleet") as stage:
                replicas = fleet.ready(LOAD_DEADLINE_S, stage)
                stage.note(", ".join(_seat(card) for card in replicas))
            with ui.stage("measure") as stage:
                measured = measure_teachers(asked, stage)
        if result is None:
            with ui.stage("distill") as stage:
                training = student_training(space, specs, run, storage, measured)
                result = _train(training, space, fleet, stage)
            remember(space.home, specs, result["teachers"])
        with ui.stage("judge") as stage:
            replicas = fleet.ready(LOAD_DEADLINE_S, stage)
            if replicas and not measured:
                stage.note(", ".join(_seat(card) for card in replicas))
            judgement = judge_teachers(asked, measured, stage)
    finally:
        fleet.stop()
    with ui.stage("judge/student") as stage:
        scores = judge_student(space, folder / "model").scores()
        judgement = replace(judgement, student=scores)
        stage.note(scores.words())
    with atomic_write(folder / JUDGEMENT) as file:
        json.dump(judgement.to_json(), file)
    return Distilled(run, folder / "model", result, specs, judgement, reused=False)


def find_student(space: Workspace, finetuned: dict[str, Finetuned]) -> Distilled:
    """The student of a run that is done. Raises TrainError when it is not."""
    specs = teacher_specs(space, finetuned)
    run = distill_run(space, {spec.name: spec.fingerprint for spec in specs})
    known = _known(space, run, specs)
    if known is None:
        raise TrainError(
            f"run {run}: the student of {space.job.name} is not distilled yet",
            fix="run `tutelage distill` with the same job and overrides first",
        )
    return known


def _known(space: Workspace, run: str, specs: list[TeacherSpec]) -> Distilled | None:
    result, judged = finished(space, run), space.runs / run / JUDGEMENT
    if result is None or not judged.exists():
        return None
    judgement = Judgement.from_json(json.loads(judged.read_text()))
    return Distilled(run, space.runs / run / "model", result, specs, judgement, reused=True)


def student_training(
    space: Workspace, specs: list[TeacherSpec], run: str, storage: str, measured: dict[str, dict[str, float]]
) -> Training:
    """The training of the student."""
    job = space.job
    tokenizer = tokenizer_of(job.student.tokenizer, space.student, space.home)
    payloads = {choice.teacher: choice.spec for choice in planned(space, measured)}
    for spec in specs:
        if spec.remote is not None:
            check_payload(spec, payloads[spec.name], tokenizer)
    return Training(
        run=run,
        base=space.student.folder,
        tokenizer=tokenizer,
        task=job.task,
        layers=job.student.layers,
        architecture=job.student.architecture,
        method=job.student.method,
        train=job.train,
        objectives=job.objectives,
        combiner=job.combiner,
        stream=job.stream,
        examples=str(space.tokens_of(tokenizer)),
        picks=job.student.data,
        slices=None,
        seed=job.seed,
        on_policy=job.on_policy,
        payloads=payloads,
        stores=signal_folders(space.signals, specs, payloads),
        measured=measured,
        storage=f"{storage}/runs",
        output=str(space.runs / run / "model"),
    )


def _train(training: Training, space: Workspace, fleet: Fleet, stage: Stage) -> dict[str, Any]:
    run = training.run
    training = replace(training, fence=Fence.of(space.runs, run))
    board = RayBoard.start()
    try:
        with board.watch(lambda posts: show_training(stage, training, posts)):
            result = fit_all({run: training}, fleet.members, board, stage, space.job.ray.patience_s)[run]
    finally:
        board.stop()
    stage.table(teacher_table(result["teachers"], training.payloads, training.task.type, ended=True))
    calls = ", ".join(f"{name} {int(counted['calls'])}" for name, counted in result["teachers"].items())
    stage.note(
        f"{result['steps']} steps in {result['seconds']:.0f} s, {result['precision']}"
        + (f"; teacher calls: {calls}" if calls else "")
    )
    for said in result["notes"]:
        stage.note(said)
    return result


def _seat(card: Mapping[str, str]) -> str:
    shared = card.get("shared_layers")
    return f"{card['replica']} on {card['device']}" + (f" ({shared} layers shared)" if shared else "")


def _spec(space: Workspace, teacher: TeacherConfig, finetuned: dict[str, Finetuned]) -> TeacherSpec:
    job = space.job
    max_tokens = teacher.max_tokens or job.data.max_tokens
    if teacher.remote is not None:
        folder = resolve_model(teacher.tokenizer, space.home) if teacher.tokenizer else ""
        return remote_spec(
            teacher,
            job.task,
            tokenizer=folder,
            max_tokens=max_tokens,
            deadline_s=job.stream.deadline_s,
        )
    if teacher.name in finetuned:
        card = describe(finetuned[teacher.name].folder)
        order = [card.labels.index(label) for label in job.task.labels]
    else:
        card = space.bases[teacher.name]
        order = teacher_label_order(teacher, card, job.task)
    tokenizer = tokenizer_of(teacher.tokenizer, card, space.home)
    return TeacherSpec(
        name=teacher.name,
        model=card.folder,
        tokenizer=tokenizer,
        label_order=tuple(order),
        max_tokens=max_tokens,
        threads=threads_of(teacher),
        fingerprint=fingerprint(card.folder, tokenizer, order, max_tokens),
        task=job.task,
    )


def show_training(stage: Stage, training: Training, posts: Mapping[str, dict[str, Any]]) -> None:
    post = posts.get(training.run)
    if post is None:
        return
    point = post["point"]
    figures: dict[str, float | str] = {"loss": loss_text(point)}
    if "accuracy" in point:
        figures["accuracy"] = f"{point['accuracy']:.3f}"
    if post["seconds"]:
        figures["waiting"] = f"{post['waited_s'] / post['seconds']:.0%}"
    views = views_of(posts, training.run)
    figures["teacher calls"] = f"{sum(view['calls'] for view in views.values()):.0f}"
    stage.update(post["step"], post["total"], **figures)
    stage.table(teacher_table(views, training.payloads, training.task.type))
