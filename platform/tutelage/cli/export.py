"""`tutelage export`: the student of a job as ONNX files, recorded as an immutable version."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import typer

from tutelage.cli.finetune import JobFile, Overrides

if TYPE_CHECKING:
    from tutelage.cli.console import Console


def export(ctx: typer.Context, job_file: JobFile, overrides: Overrides = None) -> None:
    """Write ONNX fp32 and int8, check that they agree with torch, and record the version."""
    from actors.distill import find_student
    from actors.finetune import finished_teachers
    from tutelage.cli.figures import write_figures
    from tutelage.cli.steps import export_version, open_job, prepare

    console: Console = ctx.obj
    begin = time.monotonic()
    job = open_job(console, job_file, overrides)
    space = prepare(job)
    teachers = finished_teachers(space)
    student = find_student(space, teachers)
    exported = export_version(job, space, student)
    follow = f"tutelage deploy {exported.version.ref}"
    report, page = write_figures(
        job,
        space,
        teachers,
        student,
        exported=exported,
        command=f"tutelage export {job_file}",
        began=begin,
        next_command=follow,
    )
    console.result(
        report.model_dump(mode="json"),
        f"version {exported.version.ref}\nfiles   {exported.result.folder}\nreport  {page}\nnext    {follow}",
    )
