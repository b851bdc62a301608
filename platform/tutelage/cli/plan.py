"""What `--plan` shows before anything costs time: rows, steps, teacher calls, bytes, what is done already."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from actors.workspace import Workspace
    from tutelage.cli.console import Console
    from tutelage.config.data import Pick
    from tutelage.config.train import TrainConfig


def finetune_table(space: Workspace, only: list[str] | None, *, fresh: bool) -> list[dict[str, Any]]:
    """One row for each teacher that is made here."""
    from actors.finetune import finetune_plan
    from actors.workspace import tokenizer_of
    from tutelage.data.examples import Examples

    rows = []
    for teacher, run, done in finetune_plan(space, only):
        assert teacher.finetune is not None
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


def distill_table(space: Workspace, *, fresh: bool) -> list[dict[str, Any]]:
    """The fine-tunings, then the distillation with its teacher calls and bytes."""
    from actors.evaluate import student_examples

    job = space.job
    rows = finetune_table(space, None, fresh=False)
    training = _training(student_examples(space), job.student.data, job.train)
    workers = job.train.workers
    calls = -(-training["rows"] // job.train.micro_batch) * len(job.teachers)
    reply = 4 * len(job.task.labels)
    run, done = _student_run(space)
    rows.append(
        {
            "step": "distill",
            "run": run,
            "does": "reuse" if done and not fresh else "train",
            **training,
            "teacher calls": calls,
            "bytes a text": reply * len(job.teachers),
            "needs": f"{workers * job.train.cpus_per_worker:g} + "
            f"{sum(t.min_replicas * t.num_cpus for t in job.teachers):g} CPUs",
        }
    )
    return rows


def _student_run(space: Workspace) -> tuple[str, bool]:
    """The run id of the student and whether it is done; no id before its teachers are made."""
    from actors.distill import teacher_specs
    from actors.workspace import distill_run, finished
    from tutelage.cli.export import finished_teachers
    from tutelage.errors import TrainError

    try:
        specs = teacher_specs(space, finished_teachers(space))
    except TrainError:
        return "", False
    run = distill_run(space, {spec.name: spec.fingerprint for spec in specs})
    return run, finished(space, run) is not None


def show_plan(console: Console, rows: list[dict[str, Any]]) -> None:
    """Print the plan as a table, or as JSON."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    console.result(
        {"plan": rows},
        lambda: console.table("Plan", columns, [[row.get(column, "") for column in columns] for row in rows]),
    )


def _training(examples: Any, picks: dict[str, Pick] | None, train: TrainConfig) -> dict[str, Any]:
    chosen = examples.select("train", picks)
    steps = train.epochs * -(-len(chosen) // train.batch_size)
    return {
        "rows": len(chosen),
        "labelled": int(chosen.labelled.sum()),
        "epochs": train.epochs,
        "steps": min(steps, train.max_steps or steps),
    }
