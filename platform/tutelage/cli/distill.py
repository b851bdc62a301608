"""`tutelage distill`: train the student of a job from its teachers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from tutelage.cli.finetune import Address, Fresh, JobFile, Overrides, Plan
from tutelage.cli.following import after_distill, command_of

if TYPE_CHECKING:
    from tutelage.cli.console import Console


def distill(
    ctx: typer.Context,
    job_file: JobFile,
    overrides: Overrides = None,
    fresh: Fresh = False,
    plan: Plan = False,
    self_test: Annotated[
        bool, typer.Option("--self-test", help="Make the student its own teacher: KL and gradient must be 0.")
    ] = False,
    address: Address = None,
) -> None:
    """Stream the teachers' signals to the student; teachers that are not made yet are made first.

    Repeating the command goes on where an interrupted run stopped.
    """
    from tutelage.cli.steps import make_student, make_teachers, open_job, prepare

    console: Console = ctx.obj
    begin = time.monotonic()
    job = open_job(console, job_file, overrides, address)
    space = prepare(job)
    if plan:
        from tutelage.cli.plan import distill_plan, show_distill_plan

        show_distill_plan(console, distill_plan(space, fresh=fresh))
        return
    from actors.session import session

    words = command_of("distill", job_file, overrides)
    with session(space.job.ray, job.home) as ray:
        teachers = make_teachers(job, space, ray)
        if self_test:
            from tutelage.cli.self_test import run_self_test

            run_self_test(job, space, teachers, ray.storage, command=f"{words} --self-test", began=begin)
            return
        student = make_student(job, space, ray, teachers, fresh=fresh)
    from tutelage.cli.figures import write_figures
    from tutelage.cli.outcome import say_accuracy

    follow = after_distill(space.job, job_file, overrides, student.folder)
    report, page = write_figures(
        job,
        space,
        teachers,
        student,
        command=words,
        began=begin,
        next_command=follow,
    )

    def human() -> str:
        say_accuracy(console, report)
        return (
            f"run     {student.run}{' (was done)' if student.reused else ''}\n"
            f"student {student.folder}\nreport  {page}" + (f"\nnext    {follow}" if follow else "")
        )

    console.result(report.model_dump(mode="json"), human)
