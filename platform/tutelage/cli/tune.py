"""`tutelage tune`: search what distillation depends on, and hand over a winner."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tutelage.cli.finetune import Address, Fresh, JobFile, Overrides, Plan
from tutelage.cli.following import command_of
from tutelage.models.exportable import TASKS

if TYPE_CHECKING:
    from actors.finetune import Finetuned
    from actors.session import Session
    from actors.workspace import Workspace
    from tune_spaces.search.opened import Opened
    from tune_spaces.search.run import Searched
    from tutelage.cli.console import Console
    from tutelage.cli.steps import Exported, Job
    from tutelage.report.search.figures import SearchReport, Winner

WINNER = "winner.yaml"


def tune(
    ctx: typer.Context,
    job_file: JobFile,
    overrides: Overrides = None,
    fresh: Fresh = False,
    plan: Plan = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the newest search of this job, or say what changed.")
    ] = False,
    trials_only: Annotated[
        bool, typer.Option("--trials-only", help="Search, and train no winner on the full budget.")
    ] = False,
    address: Address = None,
) -> None:
    """Search the keys that the job's `search` section names; teachers score each text once for all trials.

    Repeating the command goes on where an interrupted search stopped.
    """
    from tutelage.cli.steps import make_teachers, open_job, prepare

    console: Console = ctx.obj
    job = open_job(console, job_file, overrides, address)
    space = prepare(job)
    if plan:
        from tutelage.cli.plan_search import search_plan, show_search_plan

        show_search_plan(console, search_plan(space))
        return
    from actors.session import session
    from tune_spaces.search.opened import open_search, searched_space

    searched_space(space)  # a mistake in the space must not cost the time of making teachers
    words = command_of("tune", job_file, overrides)
    with session(space.job.ray, job.home) as ray:
        teachers = make_teachers(job, space, ray)
        opened = open_search(space, teachers)
        if resume:
            check_resume(opened)
        found = make_search(job, opened, ray, fresh=fresh)
        figures = search_report(job, space, found, command=words)
        winner = known_winner(found) if trials_only else make_winner(job, space, ray, teachers, found, words)
        figures = figures.model_copy(update={"winner": winner})
    page = write_search(figures, found.folder)
    console.result(figures.model_dump(mode="json"), lambda: tell(console, figures, page))


def check_resume(opened: Opened) -> None:
    """Raise ConfigError where the newest search of the job is not this one."""
    from tune_spaces.search.terms import TERMS, refuse_changed
    from tutelage.errors import ConfigError

    name, runs = opened.space.job.name, opened.space.runs
    known = sorted(runs.glob(f"{name}-tune-*/{TERMS}"), key=lambda path: path.stat().st_mtime_ns)
    if not known:
        raise ConfigError(f"--resume: {name} has no search to go on with", fix="leave out --resume")
    refuse_changed(opened.terms, known[-1].parent)


def make_search(job: Job, opened: Opened, session: Session, *, fresh: bool = False) -> Searched:
    """Run the search, or go on with it; the registry keeps it as a run."""
    from tune_spaces.search.run import search
    from tutelage.cli.steps import recorded

    run = opened.id
    with recorded(job, "tune", [] if opened.closed and not fresh else [run], fresh=fresh) as figures:
        found = search(opened, job.console, storage=session.storage, fresh=fresh)
        figures[run] = {
            "accuracy": found.best.value("accuracy"),
            "loss": found.best.value("loss"),
            "trials": len(found.book.records),
            "best": found.best.id,
            "teacher_calls": found.book.calls,
            "texts_scored": found.book.texts,
        }
    return found


def search_report(job: Job, space: Workspace, found: Searched, *, command: str) -> SearchReport:
    """The figures of a search, before a winner is trained."""
    from tune_spaces.search.results import search_figures
    from tutelage.cli.figures import surroundings

    around = surroundings("")
    return search_figures(
        space,
        found,
        {
            "command": command,
            "created": around["created"],
            "machine": {
                key: str(value) for key, value in around["machine"].model_dump().items() if value is not None
            },
            "config_yaml": job.yaml,
        },
    )


def make_winner(
    job: Job,
    space: Workspace,
    session: Session,
    teachers: dict[str, Finetuned],
    found: Searched,
    command: str,
) -> Winner:
    """Train the best trial's job on the full budget, export it, and record it with its search."""
    from tune_spaces.search.results import winner_figures
    from tune_spaces.search.winner import winner_job
    from tutelage.cli.figures import write_figures
    from tutelage.cli.steps import export_version, make_student
    from tutelage.config.load import dump_yaml
    from tutelage.files import atomic_write

    begin = time.monotonic()
    chosen = winner_job(space.job, found.space, found.best)
    file = found.folder / WINNER
    with atomic_write(file) as opened:
        opened.write(dump_yaml(chosen))
    job = dataclasses.replace(job, loaded=dataclasses.replace(job.loaded, job=chosen))
    space = dataclasses.replace(space, job=chosen)
    student = make_student(job, space, session, teachers, parent=found.id)
    exported: Exported | None = None
    if chosen.task.type in TASKS:
        exported = export_version(job, space, student, search=found.id, trial=found.best.id)
    again = command_of("distill", file)
    write_figures(
        job,
        space,
        teachers,
        student,
        exported=exported,
        command=command,
        began=begin,
        next_command=f"tutelage deploy {exported.version.ref}" if exported else again,
    )
    measured: dict[str, Any] = {}
    if exported:
        served = exported.result.int8_bytes or exported.result.fp32_bytes
        measured = {
            "version": exported.version.ref,
            "test_accuracy": exported.scores["torch"].mean,
            "int8_accuracy": exported.scores["int8"].mean if "int8" in exported.scores else None,
            "size_mb": served / 1e6,
        }
    return winner_figures(found, student.run, again, **measured)


def known_winner(found: Searched) -> Winner | None:
    """The winner of this search that an earlier command has trained."""
    from tutelage.report.search.write import JSON, read_search_report

    if not found.reused or not (found.folder / JSON).exists():
        return None
    winner = read_search_report(found.folder).winner
    return winner if winner is not None and winner.trial == found.best.id else None


def write_search(figures: SearchReport, folder: Path) -> Path:
    """The page, its figures and the table of trials; gives the page."""
    from tune_spaces.search.results import write_parquet
    from tutelage.report.search.write import write_search_report

    write_parquet(figures, folder)
    return write_search_report(figures, folder)


def tell(console: Console, figures: SearchReport, page: Path) -> str:
    """What a person reads at the end."""
    from tune_spaces.search.watch import cell, short_names

    keys = [key.key for key in figures.keys]
    rows = [
        [
            str(trial.number),
            trial.status,
            "" if trial.metric is None else f"{trial.metric:.4f}",
            *(cell(trial.values.get(key)) for key in keys),
        ]
        for trial in figures.ranked()[:10]
    ]
    console.table("The best trials", ["trial", "", figures.metric, *short_names(keys)], rows)
    calls = ", ".join(f"{name} {count}" for name, count in figures.teacher_calls.items())
    trained = [trial for trial in figures.trials if trial.status != "refused"]
    refused = len(figures.trials) - len(trained)
    lines = [f"{len(trained)} trials, teacher calls: {calls or 'none'}"]
    if refused:
        lines.append(f"{refused} points were refused before they became trials: see the report")
    if figures.baseline is not None and figures.baseline_metric is not None:
        lines.append(f"the job as it is: {figures.metric} {figures.baseline_metric:.4f}")
    if figures.winner:
        lines.append(f"winner  {figures.winner.run}  {figures.winner.version or ''}".rstrip())
        lines.append(f"again   {figures.winner.command}")
    return "\n" + "\n".join([*lines, f"report  {page}"])
