"""`tutelage runs`: what was started, how it ended, what it measured."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from tutelage.cli.console import Console
    from tutelage.registry import Run, Runs

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="List, show and release runs, and read their logs.",
)


@app.command()
def ls(
    ctx: typer.Context,
    kind: Annotated[str | None, typer.Option("--kind", help="Such as finetune or distill.")] = None,
    job: Annotated[str | None, typer.Option("--job", help="Only runs of the job of this name.")] = None,
    status: Annotated[
        str | None, typer.Option("--status", help="running, done, failed or interrupted.")
    ] = None,
) -> None:
    """List runs, newest first."""
    from tutelage.cli.text import duration
    from tutelage.errors import ConfigError
    from tutelage.registry.runs import STATUSES

    if status is not None and status not in STATUSES:
        raise ConfigError(f"--status {status} is not one of {', '.join(STATUSES)}", fix="use one of them")
    console: Console = ctx.obj
    runs = _runs().list(kind=kind, job=job, status=status)

    def human() -> str | None:
        if not runs:
            return "no such runs"
        columns = ("run", "kind", "job", "status", "started (UTC)", "took", "loss", "accuracy")
        lines = [
            [
                run.run_id,
                run.kind,
                run.job_name,
                _status(run),
                _time(run.started)[:16].replace("T", " "),
                "" if run.seconds is None else duration(run.seconds),
                _figure(run, "loss"),
                _figure(run, "accuracy"),
            ]
            for run in runs
        ]
        console.table("", columns, lines)
        return None

    console.result({"runs": [_row(run) for run in runs]}, human)


@app.command()
def show(
    ctx: typer.Context,
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or the beginning of it.")],
    config: Annotated[bool, typer.Option("--config", help="Only the job that ran, as YAML.")] = False,
) -> None:
    """Show one run: how it ended, its figures, where it ran."""
    from tutelage.config.dump import to_yaml

    console: Console = ctx.obj
    run = _runs().get(run_id)
    data = _row(run)
    human = run.config_yaml if config else to_yaml(_without_none(data))
    console.result({**data, "config_yaml": run.config_yaml}, human.rstrip())


@app.command()
def logs(
    ctx: typer.Context,
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or the beginning of it.")],
    tail: Annotated[int | None, typer.Option("--tail", min=0, help="Only the last so many lines.")] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the run ends; with --json one line each.")
    ] = False,
) -> None:
    """Show what a run said: the command, its workers and its replicas, wherever they were."""
    from tutelage import run_log
    from tutelage.errors import ConfigError
    from tutelage.files import home

    console: Console = ctx.obj
    runs = _runs()
    run = runs.get(run_id)
    folder = home() / "runs" / run.run_id
    if not run_log.has_log(folder) and not follow:
        raise ConfigError(
            f"run '{run.run_id}' has no log below {folder}", fix="look in the home of the command that ran it"
        )
    place = run_log.whole_lines(folder) if follow else None
    lines = run_log.lines_of(folder, place)
    lines = lines[len(lines) - min(tail, len(lines)) :] if tail is not None else lines
    if place is None:
        console.result({"run": run.run_id, "lines": lines}, "\n".join(map(_words, lines)))
        return
    coming = run_log.follow(folder, place, lambda: runs.get(run.run_id).status == "running")
    for line in itertools.chain(lines, coming):
        console.line(json.dumps(line, ensure_ascii=False) if console.as_json else _words(line))


def _words(line: dict[str, Any]) -> str:
    mark = "" if line["level"] == "info" else f"{line['level']}: "
    return f"{line['at'][:19].replace('T', ' ')}  {line['who']}  {mark}{line['text']}"


@app.command()
def release(
    ctx: typer.Context,
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or the beginning of it.")],
) -> None:
    """Take a run from a holder that is gone or hangs, so that its command can be repeated at once.

    A holder that lives after all notices it at its next heart-beat and stops; the registry, checkpoints and
    the model folder are closed to it at once.
    """
    from tutelage.cli.text import duration
    from tutelage.files import home
    from tutelage.holder import Fence, Holder

    console: Console = ctx.obj
    run = _runs().release(
        run_id, lambda whole, number: Fence.raise_to(home() / "runs", whole, number, Holder.this())
    )
    silent = "" if run.silent_s is None else f"; its last heart-beat was {duration(run.silent_s)} ago"
    words = f"{run.run_id} was held by process {run.pid} on {run.host}{silent}. It is free"
    console.result({"run": run.run_id, "host": run.host, "pid": run.pid, "silent_s": run.silent_s}, words)


def _runs() -> Runs:
    from tutelage.files import home
    from tutelage.registry import open_registry

    return open_registry(home()).runs


def _row(run: Run) -> dict[str, Any]:
    return {
        "run": run.run_id,
        "kind": run.kind,
        "job": run.job_name,
        "status": run.status,
        "started": _time(run.started),
        "finished": None if run.finished is None else _time(run.finished),
        "seconds": run.seconds,
        "host": run.host,
        "pid": run.pid,
        "silent_s": run.silent_s,
        "digest": run.digest,
        "parent": run.parent,
        "again": run.figures.get("again") or again(run.kind, run.run_id),
        "figures": run.figures,
    }


def again(kind: str, run_id: str) -> str | None:
    """The command that makes the run once more, from what the registry keeps of it; None where it cannot."""
    if kind == "update":
        return None  # it takes data, which only a finished update has recorded
    return f"tutelage runs show {run_id} --config > {run_id}.yaml && tutelage {kind} {run_id}.yaml --fresh"


def _status(run: Run) -> str:
    """As it is, with the age of the last sign of life where one is overdue."""
    from tutelage.cli.text import duration
    from tutelage.registry.leases import BEAT_S

    late = run.silent_s is not None and run.silent_s > 2 * BEAT_S
    return f"{run.status}, silent {duration(run.silent_s or 0.0)}" if late else run.status


def _figure(run: Run, name: str) -> str:
    value = run.figures.get(name)
    return f"{value:.3f}" if isinstance(value, float) else ""


def _without_none(data: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if value is not None}


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).isoformat(timespec="seconds")
