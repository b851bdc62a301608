"""`tutelage finetune`: make the teachers of a job."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from tutelage.cli.console import Console

JobFile = Annotated[Path, typer.Argument(metavar="JOB", help="The job file (YAML).")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Such as train.lr=3e-5.")]
Address = Annotated[str | None, typer.Option("--address", help="Ray cluster to run on; else RAY_ADDRESS.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Start again, also where a run is done or half done.")]
Plan = Annotated[bool, typer.Option("--plan", help="Say what would be done, and do nothing.")]


def finetune(
    ctx: typer.Context,
    job_file: JobFile,
    overrides: Overrides = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Only this teacher; may be repeated.")
    ] = None,
    fresh: Fresh = False,
    plan: Plan = False,
    address: Address = None,
) -> None:
    """Fine-tune each teacher that has a `finetune` section; what is done already is reused."""
    from tutelage.cli.steps import make_teachers, open_job, prepare
    from tutelage.cli.text import measured

    console: Console = ctx.obj
    job = open_job(console, job_file, overrides, address)
    space = prepare(job)
    if plan:
        from tutelage.cli.plan import finetune_table, show_plan
        from tutelage.cli.plan_data import data_about

        show_plan(console, finetune_table(space, only, fresh=fresh), data_about(space))
        return
    from actors.session import session

    with session(space.job.ray, job.home) as ray:
        teachers = make_teachers(job, space, ray, only=only, fresh=fresh)
    from actors.finetune import judge_made
    from tutelage.cli.outcome import interval

    scores = judge_made(space, teachers, console)
    data = {
        name: {
            "run": made.run,
            "folder": str(made.folder),
            "reused": made.reused,
            **_summary(made.result),
            "test": asdict(scores[name]),
        }
        for name, made in teachers.items()
    }
    console.result(
        {"teachers": data},
        lambda: console.table(
            "Teachers",
            ["teacher", "steps", "seconds", "validation accuracy", "test", "95 % interval", "folder"],
            [
                [
                    name,
                    row["steps"],
                    row["seconds"],
                    measured(row["accuracy"], 3),
                    measured(row["test"]["mean"], 3),
                    interval(*(row["test"]["interval"] or (None, None))),
                    row["folder"],
                ]
                for name, row in data.items()
            ],
        ),
    )


def _summary(result: dict[str, Any]) -> dict[str, Any]:
    from actors.training import kept_accuracy

    return {
        "steps": result["steps"],
        "seconds": result["seconds"],
        "precision": result["precision"],
        "accuracy": kept_accuracy(result),
    }
