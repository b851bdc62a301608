"""`tutelage update`: new data into a version; a candidate that is measured on everything before."""

from __future__ import annotations

import math
import shlex
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tutelage.cli.finetune import Address, Fresh, Overrides, Plan
from tutelage.cli.update_order import CANDIDATE, REJECTED, Candidate, Ordered, open_order

if TYPE_CHECKING:
    from actors.session import Session
    from actors.update.opened import Update
    from actors.update.run import Updated
    from tutelage.cli.console import Console
    from tutelage.config import JobConfig
    from tutelage.continual.state import State


def update(
    ctx: typer.Context,
    ref: Annotated[str, typer.Argument(metavar="MODEL", help="NAME, NAME@ALIAS, NAME:ID or ID.")],
    data: Annotated[
        list[str] | None,
        typer.Option("--data", help="File, folder, glob, URL, or catalog:NAME/PART; several are a stream."),
    ] = None,
    overrides: Overrides = None,
    name: Annotated[
        str | None, typer.Option("--name", help="What the data is called; its file's name.")
    ] = None,
    stream: Annotated[
        Path | None, typer.Option("--stream", help="YAML file of a scenario and its increments.")
    ] = None,
    compute_state: Annotated[
        bool, typer.Option("--compute-state", help="Measure anew what the version should remember.")
    ] = False,
    plan: Plan = False,
    fresh: Fresh = False,
    address: Address = None,
) -> None:
    """Make a candidate version from a version and new data, and say what it gained and what it forgot.

    Several --data, or the increments of a --stream, are learned one after another, each from the candidate
    before. Ends with exit code 1, and keeps the candidate, when it forgot more than update.gate allows; the
    stream stops there.
    """
    from actors.session import session
    from tutelage.cli.update_stream import check_step, increments_of, say_increment, stream_command
    from tutelage.errors import GateError

    console: Console = ctx.obj
    given = [*(overrides or []), *([f"ray.address={address}"] if address else [])]
    first, *others = steps = increments_of(data or [], name, stream)
    for step in steps if others else ():
        # What is wrong in a later one is better known before the first is trained.
        check_step(console, ref, step, given)
    began = order = open_order(console, ref, first.data, first.with_own(given), first.name)
    if plan:
        from tutelage.cli.plan_update import show_update_plan, update_plan

        state = state_of(order, None, compute=compute_state, plan=True)
        show_update_plan(console, update_plan(open_increment(order, state), others))
        return
    with session(order.job.loaded.job.ray, order.job.home) as ray:
        candidate: Candidate | None = None
        for number, step in enumerate(steps, 1):
            if candidate is not None:
                ref, own = candidate.version.ref, step.with_own(given)
                order = open_order(console, ref, step.data, own, step.name, began.version)
            if others:
                say_increment(console, number, len(steps), step)
            state = state_of(order, ray, compute=compute_state and candidate is None)
            words = (
                stream_command(began.version.ref, steps, stream, overrides or [], compute=compute_state)
                if others
                else command_of(order, step.data, step.with_own(overrides or []))
            )
            candidate = make_candidate(order, open_increment(order, state), ray, words, fresh=fresh)
            if not candidate.verdict.passed:
                break
    assert candidate is not None
    tell(console, order, candidate)
    if not candidate.verdict.passed:
        raise GateError("; ".join(candidate.verdict.problems), fix=candidate.verdict.fix)


def command_of(order: Ordered, data: str, overrides: list[str]) -> str:
    """The command that makes this update alone."""
    words = ["tutelage update", order.version.ref, "--data", shlex.quote(data), "--name", order.source]
    return " ".join([*words, *map(shlex.quote, overrides)])


def state_of(order: Ordered, ray: Session | None, *, compute: bool, plan: bool = False) -> State:
    """The version's state, or one that is computed from the data of its job.

    Raises ConfigError for a version without state, which is offered to be computed.
    """
    from tutelage.continual.state import State
    from tutelage.errors import ConfigError

    if not compute:
        state = State.read(order.folder)
        if state is not None:
            return state
        raise ConfigError(
            f"{order.version.ref} has no state to update from: it was exported without an update section",
            fix="repeat with --compute-state, which measures it on the data of the version's job",
        )
    from tutelage.cli.recompute import recompute_state

    return recompute_state(order, ray, plan=plan)


def open_increment(order: Ordered, state: State) -> Update:
    """Read and check the new data."""
    from actors.update.labels import all_labels
    from actors.update.opened import open_update
    from actors.update.remarks import remarks

    job = order.job.loaded.job
    assert job.update is not None
    sources = {order.source: job.data.sources[order.source]}
    labels = state.about.labels
    if job.update.grow:
        labels = all_labels(job, sources, labels, order.job.home)
    opened = open_update(
        job, job.update, state.folder.parent, state, sources, order.job.home, order.job.console, labels
    )
    for sentence in remarks(opened):
        order.job.console.warn(sentence)
    return opened


def make_candidate(
    order: Ordered, opened: Update, ray: Session, words: str, *, fresh: bool = False
) -> Candidate:
    """Train, judge, export and record; the gate's verdict decides what the candidate is called."""
    from actors.update.remarks import unmeasured
    from actors.update.run import run_update
    from tutelage.cli.steps import export_files, record, recorded
    from tutelage.cli.update_report import write_update
    from tutelage.continual.gate import judge_forgetting
    from tutelage.registry.refs import CHAMPION

    begin = time.monotonic()
    if opened.state.folder.parent != order.folder and "--compute-state" not in words:
        words += " --compute-state"  # the version has none of its own, so the command is refused without it
    job = order.job.loaded.job
    labels = opened.space.job.task.labels
    continued = with_labels(job, labels)
    versions = order.job.registry.versions
    inner = replace(order.job, loaded=replace(order.job.loaded, job=continued))
    assert job.update is not None
    with recorded(inner, "update", [opened.run], parent=order.version.ref, fresh=fresh) as figures:
        updated = run_update(opened, order.job.console, storage=ray.storage, fresh=fresh)
        verdict = judge_forgetting(
            job.update.gate,
            updated.before.by_slice,
            updated.after.by_slice,
            updated.new_slices,
            unmeasured(opened),
        )
        out = opened.space.runs / opened.run / "export"
        result, scores = export_files(inner, opened.space, updated.folder, out)
        with order.job.console.stage("remember") as stage:
            state = next_state(updated, out, stage)
        lineage = {
            "run_id": opened.run,
            "parent": order.version.ref,
            "data_fingerprint": opened.data,
            "teachers": {spec.name: spec.fingerprint for spec in updated.teachers},
        }
        if CHAMPION not in versions.aliases(order.version.name):
            # Without one a bare name means the newest version, soon a candidate that nobody has chosen.
            why = "the first update started from it"
            versions.set_alias(order.version.name, CHAMPION, order.version.id, why=why)
        version = record(inner, opened.space, out, result, scores, lineage)
        alias = CANDIDATE if verdict.passed else REJECTED
        why = "the forgetting gate let it through" if verdict.passed else "; ".join(verdict.problems)
        versions.set_alias(version.name, alias, version.id, why=why)
        seconds = time.monotonic() - begin
        figures[opened.run] = {
            "accuracy": updated.after.mean,
            "before": updated.before.by_slice,
            "after": updated.after.by_slice,
            "strength": updated.strength,
            "passed": verdict.passed,
            "version": version.ref,
            "again": f"{words} --fresh",
        }
    candidate = Candidate(version, updated, verdict, seconds, state.about.history, state.about.groups)
    write_update(order, candidate, state, words)
    return candidate


def with_labels(job: JobConfig, labels: list[str]) -> JobConfig:
    """The job with more classes. Its teachers name their own no more: they do not know the new ones."""
    if labels == job.task.labels:
        return job
    data = job.model_dump(mode="json")
    data["task"]["labels"] = labels
    for teacher in data["teachers"]:
        teacher["labels"] = None
    return type(job).model_validate(data)


def next_state(updated: Updated, out: Path, stage: Any) -> State:
    """What the update after this one needs, beside the exported files."""
    import shutil

    from actors.update.memory import make_state, trained_by
    from tutelage.continual.state import WEIGHTS

    shutil.copyfile(updated.folder / WEIGHTS, out / WEIGHTS)
    opened = updated.update
    return make_state(
        trained_by(updated), opened.config, opened.state, out, opened.space.runs / opened.run, stage
    )


def tell(console: Console, order: Ordered, candidate: Candidate) -> None:
    """The answer: a table of slices, the gate, what is next."""

    def human() -> str:
        found, verdict = candidate.updated, candidate.verdict
        change_table(console, candidate)
        if len(candidate.history) > 2:
            matrix_table(console, candidate)
        lines = [
            f"version {candidate.version.ref} ({CANDIDATE if verdict.passed else REJECTED}), "
            f"from {order.version.ref}, lambda {found.strength:g}",
            f"report  {candidate.page}",
            f"next    {candidate.next_command}",
        ]
        return "\n".join(lines)

    console.result(candidate.to_json(), human)


def matrix_table(console: Console, candidate: Candidate) -> None:
    """The accuracy matrix of all trainings, and what it comes to."""
    names = [", ".join(one.slices) for one in candidate.history]
    rows = [
        [f"after {name}", *("" if math.isnan(value) else f"{value:.3f}" for value in row)]
        for name, row in zip(names, candidate.matrix, strict=True)
    ]
    console.table("Accuracy after each training, on what each brought", ["", *names], rows)
    found = candidate.summary
    forward = "" if math.isnan(found.forward) else f"FWT {found.forward:+.3f}, "
    console.say(
        f"ACC {found.accuracy:.3f}, BWT {found.backward:+.3f}, {forward}forgetting {found.forgetting:+.3f}, "
        f"minimum {found.minimum:.3f}"
    )


def change_table(console: Console, candidate: Candidate) -> None:
    """Each slice before and after, and the gate's word."""
    found, verdict = candidate.updated, candidate.verdict
    rows = []
    for name, after in found.after.by_slice.items():
        before = found.before.by_slice.get(name, float("nan"))
        new = "new" if name in found.new_slices else ""
        rows.append([name, new, f"{before:.3f}", f"{after:.3f}", f"{after - before:+.3f}"])
    console.table("Accuracy on held-out rows", ["slice", "", "before", "after", "change"], rows)
    deep = [
        f"{name} {dip.lowest:.3f} at step {dip.step} (from {dip.start:.3f})"
        for name, dip in found.dips.items()
        if dip.lowest < dip.start
    ]
    if deep:
        console.say(f"lowest on the way, on validation rows: {', '.join(deep)}")
    mark = console.styled("✓", "green") if verdict.passed else console.styled("✗", "red")
    console.say(f"{mark} {verdict.words}")
