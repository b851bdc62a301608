"""`tutelage distill --self-test`: the student as its own teacher, printed and kept as a report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from tutelage.errors import GateError
from tutelage.report.figures import Report, SelfTestFigure

if TYPE_CHECKING:
    from actors.finetune import Finetuned
    from actors.self_test import SelfTest
    from actors.workspace import Workspace
    from tutelage.cli.console import Console
    from tutelage.cli.steps import Job

RUN = "self-test"


def run_self_test(
    job: Job, space: Workspace, teachers: dict[str, Finetuned], storage: str, *, command: str, began: float
) -> None:
    """Run the self-test, print it, keep it as a report. Raises GateError when the student differs."""
    from actors.distill import student_training, teacher_specs
    from actors.self_test import self_test

    # What the validated combiner goes by decides no byte of a teacher that is alone.
    training = student_training(space, teacher_specs(space, teachers), RUN, storage, {})
    with job.console.stage(RUN) as stage:
        found = self_test(space, training, stage)
    page = write_self_test(job, space, found, command=f"{command} --self-test", began=began)
    rows = [asdict(one) | {"passed": one.passed} for one in found]
    job.console.result({"self_tests": rows, "report": str(page)}, lambda: _show(job.console, found, page))
    failed = [one.payload for one in found if not one.passed]
    if failed:
        raise GateError(
            f"a teacher that is the student differs from it by payload {failed[0]}",
            fix="another tokenizer, order of labels or precision on the way; see the table above",
        )


def write_self_test(
    job: Job, space: Workspace, found: Sequence[SelfTest], *, command: str, began: float
) -> Path:
    """The page with what was found, in the folder of the run `self-test`."""
    from tutelage.cli.figures import surroundings
    from tutelage.report.write import write_report

    figures = [SelfTestFigure(**asdict(one), passed=one.passed) for one in found]
    told = surroundings(f"{space.job.name}: the student as its own teacher")
    told |= {"command": command, "seconds": time.monotonic() - began}
    report = Report(**told, run=RUN, self_tests=figures, config_yaml=job.yaml)
    return write_report(report, space.runs / RUN)


def _show(console: Console, found: Sequence[SelfTest], page: Path) -> None:
    console.table(
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
    )
    console.say(f"report  {page}")
