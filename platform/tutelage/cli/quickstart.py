"""`tutelage quickstart`: the whole way of a job, from its data to a student that is served and learns on."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from statistics import median
from typing import TYPE_CHECKING, Annotated

import typer

from tutelage.cli.finetune import Address, Fresh, Overrides
from tutelage.cli.following import check_export

if TYPE_CHECKING:
    from actors.session import Session
    from serve_apps.client import Endpoint
    from tutelage.cli.console import Console
    from tutelage.cli.steps import Exported, Job
    from tutelage.cli.update_order import Candidate
    from tutelage.registry.versions import Version
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
    # The endpoint answers while the update trains beside it.
    "serve.cpus_per_replica=0.25",
)
"""What is other in a quickstart than in the job's own commands."""

ARRIVES = "catalog:reviews/nyt"
"""What the student of the reviews has not seen when it is deployed."""
ARRIVING = "data.sources.nyt.splits={validation: 150, test: 500, train: 1200}"


def quickstart(
    ctx: typer.Context,
    job_file: Annotated[
        Path | None, typer.Option("--job", help="A job file; examples/reviews.yaml if not given.")
    ] = None,
    overrides: Overrides = None,
    data: Annotated[
        str | None, typer.Option("--data", help="New data that the served version learns from at the end.")
    ] = None,
    fresh: Fresh = False,
    address: Address = None,
) -> None:
    """Fetch, fine-tune teachers, distil, search, export, deploy, ask, update, report: real data, minutes."""
    from actors.session import starting
    from tune_spaces.search.opened import open_search
    from tutelage.cli.figures import write_figures
    from tutelage.cli.steps import export_version, make_student, make_teachers, open_job, prepare
    from tutelage.cli.tune import make_search, search_report, write_search
    from tutelage.errors import ConfigError

    console: Console = ctx.obj
    begin = time.monotonic()
    path = job_file or example()
    job = open_job(console, path, [*SETTINGS, *(overrides or [])], address)
    check_export(job.loaded.job, fix="`tutelage distill` trains a student of any task")
    new = data or (ARRIVES if job_file is None else None)
    if new is not None and job.loaded.job.update is None:
        raise ConfigError("--data needs a job with an update section", fix="add `update: {}` to the job")
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
        arrives = [ARRIVING] if new == ARRIVES else []
        name = _endpoint_name(job, session)
        with _served(job, exported, name) as running:
            endpoint = _ask(running, QUESTIONS)
            candidate = None if new is None else _learn(job, exported, running, name, session, new, arrives)
    last = candidate.version if candidate is not None and candidate.verdict.passed else exported.version
    follow = f"tutelage deploy {last.ref}"
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
    answer = report.model_dump(mode="json")
    if candidate is not None:
        answer["update"] = candidate.to_json()
    console.result(answer, lambda: _tell(console, report, page, search_page, candidate))


def example() -> Path:
    """The job of the reviews: from the checkout, else from the installed package."""
    checkout = Path(__file__).resolve().parents[3] / "examples" / "reviews.yaml"
    return (
        checkout if checkout.exists() else Path(__file__).resolve().parents[1] / "examples" / "reviews.yaml"
    )


@contextmanager
def _served(job: Job, exported: Exported, name: str) -> Iterator[Endpoint]:
    """Deploy the version; take it down again at the end."""
    from serve_apps.deploy import undeploy
    from tutelage.errors import ConfigError

    with job.console.stage("deploy") as stage:
        endpoint = _deploy(job, exported.version, name, replace=False)
        stage.note(endpoint.url)
    try:
        yield endpoint
    finally:
        with suppress(ConfigError):  # somebody took it down already
            undeploy(name)


def _endpoint_name(job: Job, session: Session) -> str:
    """On a cluster one that nobody else has: what runs there is not the quickstart's to replace."""
    name = job.loaded.job.name
    return name if session.local else f"{name[:40]}-quickstart-{token_hex(3)}"


def _deploy(job: Job, version: Version, name: str, *, replace: bool = True) -> Endpoint:
    """Serve the version; what the endpoint answered with before is replaced and drops no request."""
    from serve_apps.deploy import deploy
    from serve_apps.schemas import VersionRef

    folder = job.registry.versions.folder(version)
    ref = VersionRef(name=version.name, id=version.id)
    return deploy(folder, ref, job.loaded.job.serve, name, replace=replace)


def _learn(
    job: Job,
    exported: Exported,
    running: Endpoint,
    name: str,
    session: Session,
    data: str,
    overrides: list[str],
) -> Candidate:
    """Update the served version from new data; the endpoint takes the candidate over while it is asked.

    A candidate that its gate stopped is kept, and not served.
    """
    from serve_apps.client import asking
    from tutelage.cli.update import command_of, make_candidate, open_increment, state_of
    from tutelage.cli.update_order import open_order

    order = open_order(job.console, exported.version.ref, data, [*SETTINGS, *overrides], None)
    opened = open_increment(order, state_of(order, session, compute=False))
    candidate = make_candidate(order, opened, session, command_of(order, data, overrides))
    if not candidate.verdict.passed:
        job.console.warn(f"{candidate.version.ref} is not served: {'; '.join(candidate.verdict.problems)}")
        return candidate
    with job.console.stage("replace") as stage, asking(running, QUESTIONS[:1]) as answered:
        _deploy(job, candidate.version, name)
        stage.note(
            f"{running.url} answers with {candidate.version.ref}; "
            f"{answered.count} requests meanwhile, {answered.failed} failed"
        )
    return candidate


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
    times = [answer.latency_ms for answer in answers if answer.latency_ms is not None]
    p50_ms = median(times) if times else None
    return EndpointFigure(url=endpoint.url, version=reply.version, answers=answers, p50_ms=p50_ms)


def _tell(
    console: Console, report: Report, page: Path, search_page: Path, candidate: Candidate | None
) -> str:
    from tutelage.cli.outcome import say_accuracy
    from tutelage.cli.text import measured as text_of
    from tutelage.cli.update import change_table

    say_accuracy(console, report)
    if report.endpoint:
        console.table(
            f"Answers of {report.version} at {report.endpoint.url}",
            ["label", "score", "ms", "text"],
            [
                [a.label, text_of(a.score, 2), text_of(a.latency_ms, 1), a.text]
                for a in report.endpoint.answers
            ],
        )
    if candidate is not None:
        change_table(console, candidate)
    lines = [
        f"{console.styled('✓' if c.ok else '✗', 'green' if c.ok else 'red')} {c.name}: {c.text}"
        for c in report.verdict
    ]
    minutes, seconds = divmod(round(report.seconds), 60)
    lines += ["", f"{minutes} min {seconds} s", f"report  {page}", f"search  {search_page}"]
    if candidate is not None:
        lines.append(f"update  {candidate.page}")
    lines.append(f"next    {report.next_command}")
    return "\n" + "\n".join(lines)
