"""`tutelage quickstart`: the whole way of a job, from its data to a student that answers over HTTP."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated

import typer

from tutelage.cli.finetune import Address, Fresh, Overrides

if TYPE_CHECKING:
    from serve_apps.client import Endpoint
    from tutelage.cli.console import Console
    from tutelage.cli.steps import Exported, Job
    from tutelage.report.figures import EndpointFigure, Report

QUESTIONS = (
    "A quiet little wonder of a film: warm, funny and beautifully acted.",
    "The battery died after two days and nobody answered my mails.",
    "The senator's plan would make a bad law worse.",
    "best day ever with my favourite people :)",
)
"""One text for each domain of the reviews."""

SETTINGS = (
    # Any free port: the quickstart must not fail because something else is served here.
    "serve.port=0",
    # A look at what `tutelage tune` does, too short to choose by.
    "search.trials=4",
    "search.reports=2",
    "search.budget={max_steps: 24}",
)
"""What is other in a quickstart than in the job's own commands."""


def quickstart(
    ctx: typer.Context,
    job_file: Annotated[
        Path | None, typer.Option("--job", help="A job file; examples/reviews.yaml if not given.")
    ] = None,
    overrides: Overrides = None,
    fresh: Fresh = False,
    address: Address = None,
) -> None:
    """Fetch, fine-tune three teachers, distil, search, export, deploy, ask, report: real data, minutes."""
    from actors.session import starting
    from tune_spaces.search.opened import open_search
    from tutelage.cli.figures import write_figures
    from tutelage.cli.steps import export_version, make_student, make_teachers, open_job, prepare
    from tutelage.cli.tune import make_search, search_report, write_search

    console: Console = ctx.obj
    begin = time.monotonic()
    path = job_file or example()
    job = open_job(console, path, [*SETTINGS, *(overrides or [])], address)
    with starting(job.loaded.job.ray, job.home) as ray:
        space = prepare(job)
        with console.stage("ray"):
            session = ray()
        teachers = make_teachers(job, space, session, fresh=fresh)
        student = make_student(job, space, session, teachers, fresh=fresh)
        found = make_search(job, open_search(space, teachers), session, fresh=fresh)
        search_page = write_search(
            search_report(job, space, found, command="tutelage quickstart"), found.folder
        )
        exported = export_version(job, space, student)
        endpoint = _serve(job, exported)
    follow = f"tutelage deploy {exported.version.ref}"
    with console.stage("report"):
        report, page = write_figures(
            job,
            space,
            teachers,
            student,
            exported=exported,
            endpoint=endpoint,
            command="tutelage quickstart",
            began=begin,
            next_command=follow,
        )
    console.result(report.model_dump(mode="json"), lambda: _tell(console, report, page, search_page))


def example() -> Path:
    """The job of the reviews: from the checkout, else from the installed package."""
    checkout = Path(__file__).resolve().parents[3] / "examples" / "reviews.yaml"
    return (
        checkout if checkout.exists() else Path(__file__).resolve().parents[1] / "examples" / "reviews.yaml"
    )


def _serve(job: Job, exported: Exported) -> EndpointFigure:
    """Deploy the version, ask it, take it down again."""
    from serve_apps.deploy import deploy, undeploy
    from serve_apps.schemas import VersionRef

    version = exported.version
    with job.console.stage("deploy") as stage:
        folder = job.registry.versions.folder(version)
        endpoint = deploy(
            folder, VersionRef(name=version.name, id=version.id), job.loaded.job.serve, tell=stage.note
        )
        stage.note(endpoint.url)
    try:
        with job.console.stage("ask"):
            return _ask(endpoint, QUESTIONS)
    finally:
        undeploy()


def _ask(endpoint: Endpoint, texts: Sequence[str]) -> EndpointFigure:
    from tutelage.report.figures import Answer, EndpointFigure

    endpoint.ask(texts[:1])
    answers = []
    for text in texts:
        begin = time.perf_counter()
        reply = endpoint.ask([text])
        found = reply.predictions[0]
        answers.append(
            Answer(
                text=text,
                label=found.label,
                score=found.score,
                latency_ms=1000 * (time.perf_counter() - begin),
            )
        )
    times = [answer.latency_ms or 0.0 for answer in answers]
    return EndpointFigure(url=endpoint.url, version=reply.version, answers=answers, p50_ms=median(times))


def _tell(console: Console, report: Report, page: Path, search_page: Path) -> str:
    from tutelage.report.numbers import capital

    slices = report.slices()
    console.table(
        f"{capital(report.measure)} on texts that no training saw",
        ["model", *slices, "mean"],
        [
            [
                f"{row.model} {row.runtime or ''}".strip(),
                *(f"{row.by_slice.get(name) or 0:.3f}" for name in slices),
                f"{row.mean or 0:.4f}",
            ]
            for row in report.accuracy
        ],
    )
    if report.endpoint:
        console.table(
            f"Answers of {report.version} at {report.endpoint.url}",
            ["label", "score", "ms", "text"],
            [
                [a.label, f"{a.score or 0:.2f}", f"{a.latency_ms or 0:.1f}", a.text]
                for a in report.endpoint.answers
            ],
        )
    lines = [
        f"{console.styled('✓' if c.ok else '✗', 'green' if c.ok else 'red')} {c.name}: {c.text}"
        for c in report.verdict
    ]
    minutes, seconds = divmod(round(report.seconds), 60)
    lines += ["", f"{minutes} min {seconds} s", f"report  {page}", f"search  {search_page}"]
    lines.append(f"next    {report.next_command}")
    return "\n" + "\n".join(lines)
