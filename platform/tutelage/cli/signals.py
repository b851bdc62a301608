"""`tutelage signals`: what teachers said and was kept, whether it is whole, and how to make room."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from tutelage.cli.console import Console
    from tutelage.signals.store.upkeep import Cleaning, Usage

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="List, check and clean up the signals that are kept on this machine.",
)

_UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 604800}


@app.command()
def ls(ctx: typer.Context) -> None:
    """List signals by teacher and payload, the last used first."""
    from tutelage.cli.text import size
    from tutelage.signals.store.upkeep import usage

    console: Console = ctx.obj
    root = _root()
    entries = usage(root)

    def human() -> str | None:
        if not entries:
            return f"no signals in {root}"
        columns = ("teacher", "called", "payload", "examples", "size", "files", "last use (UTC)")
        lines = [
            [
                entry.teacher,
                " ".join(entry.names),
                entry.spec,
                entry.examples,
                size(entry.nbytes),
                f"{entry.files}, {entry.unreadable} unreadable" if entry.unreadable else entry.files,
                _time(entry.used)[:16].replace("T", " "),
            ]
            for entry in entries
        ]
        console.table("", columns, lines)
        return f"{size(sum(entry.nbytes for entry in entries))} in {root}"

    console.result({"root": str(root), "signals": [_row(entry) for entry in entries]}, human)


@app.command()
def verify(ctx: typer.Context) -> None:
    """Read every row and compare its checksum. Exit code 1 when a file is damaged."""
    from tutelage.signals.store.budget import stored_files
    from tutelage.signals.store.upkeep import verify as verify_files

    console: Console = ctx.obj
    files = stored_files(_root())
    with console.stage("verify") as stage:
        faults = verify_files(files, stage.update)
    lines = [f"{fault.file.path}: {fault.problem}" for fault in faults]
    lines.append(f"{len(files) - len(faults)} of {len(files)} files are whole")
    if faults:
        lines.append("what damaged files held is scored again; `tutelage signals gc` removes them")
    found = [{"file": str(f.file.path), "problem": f.problem, "damaged": f.damaged} for f in faults]
    console.result({"ok": not faults, "files": len(files), "faults": found}, "\n".join(lines))
    if faults:
        raise typer.Exit(1)


@app.command()
def gc(
    ctx: typer.Context,
    older_than: Annotated[
        str | None,
        typer.Option(
            "--older-than", metavar="TIME", help="Signals not used for so long, such as 12h or 30d."
        ),
    ] = None,
    max_gb: Annotated[
        float | None, typer.Option("--max-gb", help="Then the least recently used, down to this size.")
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only say what would be done.")] = False,
) -> None:
    """Remove damaged files and what killed writers left, and merge small files. Trainings may go on."""
    from tutelage.errors import ConfigError, StoreError
    from tutelage.signals.store.upkeep import clean

    console: Console = ctx.obj
    age = None if older_than is None else _seconds(older_than)
    if max_gb is not None and not 0 <= max_gb < float("inf"):
        raise ConfigError(f"--max-gb {max_gb} is not a size", fix="give gigabytes, 0 or more")
    limit = None if max_gb is None else max_gb * 1e9
    root = _root()
    try:
        with console.stage("gc") as stage:
            done = clean(
                root,
                older_than_s=age,
                max_bytes=limit,
                plan=plan,
                watch=stage.update,
            )
    except OSError as error:
        raise StoreError(f"{root} cannot be cleaned: {error}", fix="check its rights and the disk") from error
    console.result(_cleaning(done, plan), lambda: _page(done, plan, root))


def _root() -> Path:
    from tutelage.files import home
    from tutelage.signals.store import signals_root

    return signals_root(home())


def _seconds(text: str) -> float:
    from tutelage.errors import ConfigError

    match = re.fullmatch(r"(\d+(?:\.\d+)?)([mhdw])", text.strip())
    if not match:
        raise ConfigError(
            f"--older-than {text} is not a time", fix="a number and m, h, d or w, such as 12h or 30d"
        )
    return float(match[1]) * _UNITS[match[2]]


def _row(entry: Usage) -> dict[str, Any]:
    return {
        "teacher": entry.teacher,
        "names": entry.names,
        "payload": entry.spec,
        "examples": entry.examples,
        "bytes": entry.nbytes,
        "files": entry.files,
        "unreadable": entry.unreadable,
        "last_use": _time(entry.used),
    }


def _cleaning(done: Cleaning, plan: bool) -> dict[str, Any]:
    return {
        "plan": plan,
        "bytes": done.nbytes,
        "removed": [
            {"file": str(one.file.path), "bytes": one.file.nbytes, "reason": one.reason}
            for one in done.removed
        ],
        "merged": [
            {"files": [str(file.path) for file in group.files], "bytes": group.nbytes}
            for group in done.merged
        ],
    }


def _page(done: Cleaning, plan: bool, root: Path) -> str:
    from tutelage.cli.text import size

    lines = [f"{one.file.path.relative_to(root)}: {one.reason}" for one in done.removed]
    for group in done.merged:
        count, place = len(group.files), group.files[0].folder.relative_to(root)
        what = f"{count} files into one" if count > 1 else "the good rows of a damaged file are kept"
        lines.append(f"{place}: {what}, {size(group.nbytes)}")
    verb, count = "would remove" if plan else "removed", len(done.removed)
    return "\n".join([*lines, f"{verb} {count} file{'s' * (count != 1)}, {size(done.nbytes)}"])


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).isoformat(timespec="seconds")
