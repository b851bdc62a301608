"""`tutelage config`: check a job file, show it with the origin of each value, print its schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tutelage.cli.console import Console
    from tutelage.config.job import JobConfig

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Check, show and explain a job file.",
)

Job = Annotated[Path, typer.Argument(help="The job file (YAML).")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Such as train.lr=3e-5.")]


@app.command()
def check(ctx: typer.Context, job: Job, overrides: Overrides = None) -> None:
    """Say whether the job holds together; every problem at once, with its line."""
    from tutelage.config.load import job_digest, load_job

    console: Console = ctx.obj
    loaded = load_job(job, overrides or [])
    digest = job_digest(loaded.job)
    data = {
        "ok": True,
        "path": str(job),
        "name": loaded.job.name,
        "digest": digest,
        "teachers": [teacher.name for teacher in loaded.job.teachers],
        "sources": list(loaded.job.data.sources),
    }
    console.result(
        data, f"{console.styled('ok', 'green')}  {job}: {_words(loaded.job)}, digest {digest[:12]}"
    )


@app.command()
def show(
    ctx: typer.Context,
    job: Job,
    overrides: Overrides = None,
    origin: Annotated[bool, typer.Option("--origin", help="Say where each value comes from.")] = False,
) -> None:
    """Print the whole job, defaults included, as it will run."""
    from tutelage.config.dump import to_yaml
    from tutelage.config.load import load_job

    console: Console = ctx.obj
    loaded = load_job(job, overrides or [])
    data = loaded.job.model_dump(mode="json")
    answer = {"job": data, "origin": loaded.provenance} if origin else data
    console.result(answer, to_yaml(data, loaded.provenance.get if origin else None).rstrip("\n"))


@app.command()
def schema(ctx: typer.Context) -> None:
    """Print the JSON Schema of a job file, for editors."""
    from tutelage.config.schema import json_schema

    console: Console = ctx.obj
    data = json_schema()
    console.result(data, lambda: json.dumps(data, indent=2, ensure_ascii=False))


def _words(job: JobConfig) -> str:
    sources = len(job.data.sources)
    teachers = len(job.teachers)
    return (
        f"{teachers} teacher{'s' * (teachers != 1)}, {sources} source{'s' * (sources != 1)}, "
        f"{len(job.task.labels)} labels"
    )
