"""`tutelage models`: versions, what they are, whether they are whole, and the names that point to them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from tutelage.cli.console import Console
    from tutelage.registry import Registry, Version

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="List, show, check and name recorded versions.",
)

Ref = Annotated[str, typer.Argument(metavar="REF", help="NAME, NAME@ALIAS, NAME:ID or ID.")]


@app.command()
def ls(
    ctx: typer.Context, name: Annotated[str | None, typer.Argument(help="Only versions of this name.")] = None
) -> None:
    """List versions, newest first."""
    from tutelage.cli.text import size

    console: Console = ctx.obj
    registry = _registry()
    rows = [_row(registry, version) for version in registry.versions.list(name)]
    columns = ("version", "aliases", "recorded (UTC)", "accuracy", "size")

    def human() -> str | None:
        if not rows:
            return "no versions yet; `tutelage export JOB` records one"
        lines = [
            [
                row["ref"],
                " ".join(row["aliases"]),
                row["created"][:16].replace("T", " "),
                _accuracy(row["accuracy"]),
                size(row["bytes"]),
            ]
            for row in rows
        ]
        console.table("", columns, lines)
        return None

    console.result({"versions": rows}, human)


@app.command()
def show(ctx: typer.Context, ref: Ref) -> None:
    """Show one version: metrics, files, lineage, and the moves of its name's aliases."""
    console: Console = ctx.obj
    registry = _registry()
    version = registry.versions.get(ref)
    data = _row(registry, version)
    data["card"] = version.card.model_dump(mode="json")
    data["files"] = {path: {"blake3": e.digest, "bytes": e.size} for path, e in version.manifest.items()}
    data["receipts"] = [
        {"at": _time(r.at), "alias": r.alias, "from": r.from_id, "to": r.to_id, "who": r.who, "why": r.why}
        for r in registry.versions.receipts(version.name)
    ]
    console.result(data, lambda: _page(data))


@app.command()
def verify(
    ctx: typer.Context,
    ref: Annotated[str | None, typer.Argument(metavar="[REF]", help="All, without.")] = None,
) -> None:
    """Read every file of a version and compare it with its digest. Exit code 1 when one differs."""
    console: Console = ctx.obj
    versions = _registry().versions
    chosen = versions.list() if ref is None else [versions.get(ref)]
    found = {}
    with console.stage("verify") as stage:
        for done, version in enumerate(chosen):
            stage.update(done, len(chosen), version=version.ref)
            found[version.ref] = versions.verify(version)
    broken = {name: problems for name, problems in found.items() if problems}
    lines = [f"{name}: {problem}" for name, problems in broken.items() for problem in problems]
    lines.append(f"{len(found) - len(broken)} of {len(found)} versions are whole")
    console.result({"ok": not broken, "versions": found}, "\n".join(lines))
    if broken:
        raise typer.Exit(1)


@app.command()
def forget(
    ctx: typer.Context,
    ref: Ref,
    ids: Annotated[list[str] | None, typer.Option("--id", help="An example's id; may be repeated.")] = None,
    texts: Annotated[list[str] | None, typer.Option("--text", help="An example by its text.")] = None,
) -> None:
    """Record the version again without some examples in its memory, and prove that they are gone from it.

    Its weights stay. Versions that still hold an example are named; they go by their own `forget`.
    """
    from tempfile import TemporaryDirectory

    from tutelage.continual.forget import forget as take_out
    from tutelage.continual.forget import holders, text_id
    from tutelage.errors import ConfigError, StoreError
    from tutelage.files import home

    console: Console = ctx.obj
    wanted = {*(ids or []), *(text_id(text) for text in texts or [])}
    if not wanted:
        raise ConfigError("nothing to forget", fix="give --id or --text")
    versions = _registry().versions
    version = versions.get(ref)
    with console.stage("forget"), TemporaryDirectory(dir=home()) as scratch:
        found = take_out(versions.folder(version), Path(scratch) / "version", wanted)
        if found.traces:
            raise StoreError(
                f"{', '.join(found.traces)} still hold what was to be forgotten",
                fix="report this as a defect",
            )
        lineage = version.card.lineage.model_copy(update={"parent": version.ref})
        card = version.card.model_copy(update={"lineage": lineage})
        made = versions.add(version.name, Path(scratch) / "version", card)
    others = [one for one in versions.list(version.name) if one.id != made.id]
    still = holders({one.ref: versions.folder(one) for one in others}, wanted)
    copies = [path for pattern in ("states/*", "runs/*/export") for path in sorted(home().glob(pattern))]
    caches = [*holders({str(path): path for path in copies}, wanted), *map(str, _caches(home(), wanted))]
    answer = {
        "version": made.ref,
        "forgotten": list(found.asked),
        "replayed rows": found.replayed,
        "heldout rows": found.heldout,
        "traces": [],
        "still held by": still,
        "caches": caches,
    }
    lines = [
        f"{made.ref} holds nothing of {len(wanted)} examples: every file of its state was searched "
        f"({found.replayed} replayed and {found.heldout} held-out rows taken out)"
    ]
    lines += [f"still in {name}" for name in still]
    lines += [f"still in {path}, a cache that can be removed" for path in caches]
    console.result(answer, "\n".join(lines))


def _caches(home: Path, ids: set[str]) -> list[Path]:
    """Files of rows and tokens below the home that hold an example's digest."""
    digests = [bytes.fromhex(one) for one in ids if len(one) == 32]
    files = [path for name in ("rows", "tokens", "runs") for path in (home / name).rglob("*.arrow")]
    return sorted(path for path in files if any(digest in path.read_bytes() for digest in digests))


@app.command()
def gc(
    ctx: typer.Context,
    plan: Annotated[bool, typer.Option("--plan", help="Only say what would be removed.")] = False,
) -> None:
    """Remove stored files that no version holds and that are older than an hour."""
    from tutelage.cli.text import size

    console: Console = ctx.obj
    garbage = _registry().versions.gc(plan=plan)
    count = len(garbage.objects) + garbage.leftovers
    verb = "would remove" if plan else "removed"
    console.result(
        {
            "plan": plan,
            "objects": garbage.objects,
            "leftovers": garbage.leftovers,
            "bytes": garbage.bytes,
        },
        f"{verb} {count} file{'s' * (count != 1)}, {size(garbage.bytes)}",
    )


@app.command()
def alias(
    ctx: typer.Context,
    ref: Ref,
    alias: Annotated[str, typer.Argument(help="Such as champion.")],
    why: Annotated[str, typer.Option("--why", help="The reason; it is kept with the move.")],
    plan: Annotated[bool, typer.Option("--plan", help="Only say what would change.")] = False,
) -> None:
    """Point NAME@ALIAS at a version and keep a receipt."""
    console: Console = ctx.obj
    versions = _registry().versions
    version = versions.get(ref)
    before = versions.aliases(version.name).get(alias)
    if not plan:
        before = versions.set_alias(version.name, alias, version.id, why=why).from_id
    data = {"plan": plan, "name": version.name, "alias": alias, "from": before, "to": version.id, "why": why}
    verb = "would point" if plan else "points"
    was = f", before at {before}" if before and before != version.id else ""
    console.result(data, f"{version.name}@{alias} {verb} at {version.id}{was}")


def _registry() -> Registry:
    from tutelage.files import home
    from tutelage.registry import open_registry

    return open_registry(home())


def _row(registry: Registry, version: Version) -> dict[str, Any]:
    aliases = registry.versions.aliases(version.name)
    return {
        "ref": version.ref,
        "name": version.name,
        "id": version.id,
        "aliases": [alias for alias, id in aliases.items() if id == version.id],
        "created": _time(version.created),
        "accuracy": _mean_accuracy(version),
        "bytes": version.bytes,
        "run": version.card.lineage.run_id,
    }


def _mean_accuracy(version: Version) -> dict[str, float]:
    """Mean accuracy by runtime, where the card has it."""
    accuracy = version.card.metrics.get("accuracy")
    found = accuracy.items() if isinstance(accuracy, dict) else ()
    means = {runtime: of.get("mean") for runtime, of in found if isinstance(of, dict)}
    return {runtime: float(mean) for runtime, mean in means.items() if isinstance(mean, int | float)}


def _accuracy(by_runtime: dict[str, float]) -> str:
    return "  ".join(f"{runtime} {mean:.3f}" for runtime, mean in by_runtime.items())


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).isoformat(timespec="seconds")


def _page(data: dict[str, Any]) -> str:
    from tutelage.cli.text import size
    from tutelage.config.dump import to_yaml

    card = data["card"]
    lineage = {key: value for key, value in card["lineage"].items() if key != "config_yaml"}
    plain = {
        "version": data["ref"],
        "aliases": data["aliases"],
        "recorded": data["created"],
        "task": card["task"],
        "labels": card["labels"],
        "metrics": card["metrics"],
        "files": {
            name: f"{size(file['bytes'])}  {file['blake3'][:12]}" for name, file in data["files"].items()
        },
        "lineage": lineage,
    }
    moves = [f"{r['at']}  {r['alias']} -> {r['to']}  by {r['who']}: {r['why']}" for r in data["receipts"]]
    return (
        to_yaml(plain) + ("receipts:\n" + "".join(f"  {move}\n" for move in moves) if moves else "")
    ).rstrip()
