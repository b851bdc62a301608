"""`tutelage distill`: train the student of a job from its teachers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tutelage.cli.finetune import Address, Fresh, JobFile, Overrides, Plan

if TYPE_CHECKING:
    from actors.workspace import Workspace
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

    with session(space.job.ray, job.home) as ray:
        teachers = make_teachers(job, space, ray)
        if self_test:
            _test_itself(console, space, teachers, ray.storage)
            return
        student = make_student(job, space, ray, teachers, fresh=fresh)
    from tutelage.cli.figures import write_figures

    follow = f"tutelage export {job_file}" + "".join(f" {word}" for word in overrides or [])
    report, page = write_figures(
        job,
        space,
        teachers,
        student,
        command=f"tutelage distill {job_file}",
        began=begin,
        next_command=follow,
    )
    console.result(
        report.model_dump(mode="json"),
        f"run     {student.run}{' (was done)' if student.reused else ''}\n"
        f"student {student.folder}\nreport  {page}\nnext    {follow}",
    )


def _test_itself(console: Console, space: Workspace, teachers: dict[str, Any], storage: str) -> None:
    """Run the self-test and print it. Raises GateError when the student differs from itself."""
    from dataclasses import asdict

    from actors.distill import student_training, teacher_specs
    from actors.self_test import self_test
    from tutelage.errors import GateError

    # What the validated combiner goes by decides no byte of a teacher that is alone.
    training = student_training(space, teacher_specs(space, teachers), "self-test", storage, {})
    with console.stage("self-test") as stage:
        found = self_test(space, training, stage)
    rows = [asdict(one) | {"passed": one.passed} for one in found]
    console.result(
        {"self_tests": rows},
        lambda: console.table(
            "Teacher = student, through the stream",
            ["payload", "positions", "largest KL", "largest gradient", "allowed", ""],
            [
                [
                    one.payload,
                    str(one.positions),
                    f"{one.kl:.1e}",
                    "-" if one.gradient is None else f"{one.gradient:.1e}",
                    f"{one.allowed:.1e}",
                    "passed" if one.passed else "FAILED",
                ]
                for one in found
            ],
        ),
    )
    failed = [one.payload for one in found if not one.passed]
    if failed:
        raise GateError(
            f"a teacher that is the student differs from it by payload {failed[0]}",
            fix="another tokenizer, order of labels or precision on the way; see the table above",
        )
