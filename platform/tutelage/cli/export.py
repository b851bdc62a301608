"""`tutelage export`: the student of a job as ONNX files, recorded as an immutable version."""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

import typer

from tutelage.cli.finetune import JobFile, Overrides
from tutelage.cli.following import command_of

if TYPE_CHECKING:
    from tutelage.cli.console import Console


def export(ctx: typer.Context, job_file: JobFile, overrides: Overrides = None) -> None:
    """Write ONNX fp32 and int8, check that they agree with torch, and record the version."""
    from actors.distill import find_student
    from actors.finetune import finished_teachers
    from actors.session import session
    from tutelage.cli.figures import write_figures
    from tutelage.cli.outcome import say_accuracy
    from tutelage.cli.steps import export_version, open_job, prepare

    console: Console = ctx.obj
    begin = time.monotonic()
    job = open_job(console, job_file, overrides)
    space = prepare(job)
    teachers = finished_teachers(space)
    student = find_student(space, teachers)
    # Importance of weights is measured on Ray; without an update section nothing here needs it.
    with nullcontext() if space.job.update is None else session(space.job.ray, job.home):
        exported = export_version(job, space, student)
    follow = f"tutelage deploy {exported.version.ref}"
    report, page = write_figures(
        job,
        space,
        teachers,
        student,
        exported=exported,
        command=command_of("export", job_file, overrides),
        began=begin,
        next_command=follow,
    )

    def human() -> str:
        say_accuracy(console, report)
        return (
            f"version {exported.version.ref}\nfiles   {exported.result.folder}\n"
            f"report  {page}\nnext    {follow}"
        )

    console.result(report.model_dump(mode="json"), human)
