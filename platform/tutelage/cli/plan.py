"""What `--plan` shows before anything costs time: rows, steps, teacher calls, bytes, what is done already."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutelage.cli.machine import usable_cpus
from tutelage.cli.plan_data import data_about, tell_data
from tutelage.cli.probes import Probes
from tutelage.signals.planned import describe

if TYPE_CHECKING:
    from actors.teacher import TeacherSpec
    from actors.workspace import Workspace
    from tutelage.cli.console import Console
    from tutelage.config.data import Pick
    from tutelage.config.train import TrainConfig
    from tutelage.data.examples import Examples
    from tutelage.signals.planned import Planned


def finetune_table(space: Workspace, only: list[str] | None, *, fresh: bool) -> list[dict[str, Any]]:
    """One row for each teacher that is made here."""
    from actors.finetune import finetune_plan
    from actors.fitting import tokenizer_of
    from tutelage.data.examples import Examples

    rows = []
    for teacher, run, done in finetune_plan(space, only):
        assert teacher.finetune is not None
        _check_early_stop(space, f"teachers.{teacher.name}.finetune.train")
        tokenizer = tokenizer_of(teacher.tokenizer, space.bases[teacher.name], space.home)
        examples = Examples.open(space.tokens_of(tokenizer))
        rows.append(
            {
                "step": f"finetune {teacher.name}",
                "run": run,
                "does": "reuse" if done and not fresh else "train",
                **_training(examples, teacher.finetune.data, teacher.finetune.train),
            }
        )
    return rows


@dataclass(frozen=True)
class DistillPlan:
    """What a distillation would do."""

    rows: list[dict[str, Any]]
    """The fine-tunings, then the distillation."""
    teachers: list[dict[str, Any]]
    """Payload, bytes, speed, calls and needs of each teacher."""
    reasons: dict[str, str]
    """Teacher -> why the planner chose its payload."""
    data: dict[str, Any] = field(default_factory=dict)
    """Rows, classes and concerns (`data_about`)."""


def distill_plan(space: Workspace, *, fresh: bool) -> DistillPlan:
    """What `distill` would do, without doing it. Raises what a wrong payload raises."""
    from actors.evaluate import student_examples
    from actors.payloads import planned
    from actors.speeds import known

    job = space.job
    _check_early_stop(space, "train")
    rows = finetune_table(space, None, fresh=False)
    specs = _made_teachers(space)
    run, done = _student_run(space, specs)
    does = "reuse" if done and not fresh else "train"
    examples = student_examples(space)
    training = _training(examples, job.student.data, job.train)
    choices = planned(space, {}, known(space.home, specs or [], job.teachers))
    missing = _missing(space, specs, choices, examples)
    seen = min(training["rows"], training["steps"] * job.train.batch_size)
    to_score = {
        choice.teacher: 0 if does == "reuse" else min(seen, missing[choice.teacher]) for choice in choices
    }
    teachers = [_teacher_row(space, choice, to_score[choice.teacher]) for choice in choices]
    row = {"step": "distill", "run": run, "does": does, **training}
    if choices:
        row["teacher calls"] = sum(teacher["calls"] for teacher in teachers)
        row[f"bytes a {choices[0].unit}"] = round(sum(choice.position_bytes for choice in choices), 1)
    if job.on_policy is not None:
        row["on-policy steps"] = f"about {job.on_policy.fraction * training['steps']:.0f}"
    row["needs"] = _needs(space)
    row["missing"] = _missing_cpus(space)
    reasons = {choice.teacher: choice.reason for choice in choices}
    return DistillPlan([*rows, row], teachers, reasons, data_about(space))


def _check_early_stop(space: Workspace, key: str) -> None:
    """Raise what the training of a section would raise after its models were loaded."""
    from tutelage.data.concerns import labelled, trainings
    from tutelage.errors import DataError

    stops, sources = {name: (stops, sources) for name, stops, sources in trainings(space.job)}[key]
    if stops and not labelled(space.rows, "validation", sources):
        raise DataError(
            f"{key}.early_stop watches validation rows, and of {', '.join(sources)} none has a label",
            fix=f"{key}.early_stop=null, or give labelled rows to a source with splits.validation above 0",
        )


def _teacher_row(space: Workspace, choice: Planned, to_score: int) -> dict[str, Any]:
    teacher = next(teacher for teacher in space.job.teachers if teacher.name == choice.teacher)
    least, most = teacher.min_replicas, teacher.most_replicas
    # Who is asked nothing holds nobody up.
    speed = choice.positions_s if to_score else None
    return {
        "teacher": choice.teacher,
        "payload": describe(choice.spec),
        f"bytes a {choice.unit}": round(choice.position_bytes, 1),
        f"{choice.unit}s/s at most": None if speed is None else round(speed),
        "limited by": None if speed is None else choice.limit,
        "texts to score": to_score,
        "calls": -(-to_score // space.job.train.micro_batch),
        "replicas": _range(least, most),
        "needs": _resources(
            (least * teacher.num_cpus, least * teacher.num_gpus),
            (most * teacher.num_cpus, most * teacher.num_gpus),
        ),
    }


def _needs(space: Workspace) -> str:
    """CPUs and GPUs of the student's workers and all fleets together."""
    train, teachers = space.job.train, space.job.teachers

    def total(replicas: dict[str, int]) -> tuple[float, float]:
        return (
            train.workers * train.cpus_per_worker + sum(replicas[t.name] * t.num_cpus for t in teachers),
            train.workers * train.gpus_per_worker + sum(replicas[t.name] * t.num_gpus for t in teachers),
        )

    return _resources(
        total({t.name: t.min_replicas for t in teachers}), total({t.name: t.most_replicas for t in teachers})
    )


def _missing_cpus(space: Workspace) -> str:
    """What a Ray of this machine alone lacks, and the training would wait for; empty where all fits."""
    job = space.job
    least = job.train.workers * job.train.cpus_per_worker
    least += sum(teacher.min_replicas * teacher.num_cpus for teacher in job.teachers)
    here = job.ray.num_cpus or usable_cpus(Probes())
    if job.ray.address or os.environ.get("RAY_ADDRESS") or least <= here:
        return ""
    return f"{least - here:g} of {least:g} CPUs: lower teachers.*.num_cpus or train.cpus_per_worker"


def _resources(least: tuple[float, float], most: tuple[float, float]) -> str:
    """`3..7 CPUs, 0.5..1 GPUs`, of (CPUs, GPUs); GPUs only where some are needed."""
    parts = [f"{_range(least[0], most[0])} CPUs"]
    if most[1]:
        parts.append(f"{_range(least[1], most[1])} GPUs")
    return ", ".join(parts)


def _range(least: float, most: float) -> str:
    return f"{least:g}" if least == most else f"{least:g}..{most:g}"


def _missing(
    space: Workspace, specs: list[TeacherSpec] | None, choices: list[Planned], examples: Examples
) -> dict[str, int]:
    """How many different texts of the student the store lacks, for each teacher.

    Every one where the teacher is still to be made, and at most so many with the `validated` combiner and
    shared draws: their folder is known once the teachers are measured.
    """
    from actors.payloads import signal_folders
    from tutelage.signals.store.open import open_store

    rows = examples.select("train", space.job.student.data).rows
    digests = list(dict.fromkeys(examples.digests(rows)))
    if specs is None:
        return {choice.teacher: len(digests) for choice in choices}
    payloads = {choice.teacher: choice.spec for choice in choices}
    store = space.job.stream.store
    counts = {}
    for name, folder in signal_folders(space.signals, specs, payloads).items():
        known = store.enabled and (store.url or Path(folder).is_dir())
        counts[name] = len(open_store(store, Path(folder), name).missing(digests)) if known else len(digests)
    return counts


def _made_teachers(space: Workspace) -> list[TeacherSpec] | None:
    """What the teachers' replicas load; None before all teachers are made."""
    from actors.distill import teacher_specs
    from actors.finetune import finished_teachers
    from tutelage.errors import TrainError

    try:
        return teacher_specs(space, finished_teachers(space))
    except TrainError:
        return None


def _student_run(space: Workspace, specs: list[TeacherSpec] | None) -> tuple[str, bool]:
    """The run id of the student and whether it is done; no id before its teachers are made."""
    from actors.workspace import distill_run, finished

    if specs is None:
        return "", False
    run = distill_run(space, {spec.name: spec.fingerprint for spec in specs})
    return run, finished(space, run) is not None


def show_plan(console: Console, rows: list[dict[str, Any]], data: dict[str, Any]) -> None:
    """Print the plan and its data as tables, or as JSON."""

    def human() -> None:
        tell_data(console, data)
        print_table(console, "Plan", rows)

    console.result({"plan": rows, "data": data}, human)


def show_distill_plan(console: Console, plan: DistillPlan) -> None:
    """Print the steps, the teachers and the reasons for their payloads, or all of it as JSON."""
    teachers = [{**row, "reason": plan.reasons[row["teacher"]]} for row in plan.teachers]
    found = {"plan": plan.rows, "teachers": teachers, "data": plan.data}
    console.result(found, lambda: _tell(console, plan))


def _tell(console: Console, plan: DistillPlan) -> str:
    tell_data(console, plan.data)
    print_table(console, "Plan", plan.rows)
    if not plan.teachers:
        return "\nno teachers: the student learns from the labels alone"
    print_table(console, "Teachers", plan.teachers)
    names: dict[str, list[str]] = {}
    for teacher, reason in plan.reasons.items():
        names.setdefault(reason, []).append(teacher)
    return "\n" + "\n".join(f"{', '.join(those)}: {reason}" for reason, those in names.items())


def print_table(console: Console, title: str, rows: list[dict[str, Any]]) -> None:
    """The rows with every column that says something."""
    columns = [
        column
        for column in dict.fromkeys(key for row in rows for key in row)
        if any(row.get(column) not in (None, "") for row in rows)
    ]
    console.table(title, columns, [[row.get(column, "") for column in columns] for row in rows])


def _training(examples: Any, picks: dict[str, Pick] | None, train: TrainConfig) -> dict[str, Any]:
    chosen = examples.select("train", picks)
    steps = train.epochs * -(-len(chosen) // train.batch_size)
    return {
        "rows": len(chosen),
        "labelled": int(chosen.labelled.sum()),
        "epochs": train.epochs,
        "steps": min(steps, train.max_steps or steps),
    }
