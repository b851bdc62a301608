"""The figures of an update's report, from what the command found, and the page that is written of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutelage.report.update.figures import (
    Attempt,
    Choice,
    Dip,
    Kept,
    MemoryFigure,
    SliceFigure,
    StreamSummary,
    TeacherShare,
    Training,
    TrainingCost,
    UpdateReport,
)

if TYPE_CHECKING:
    from actors.update.run import Updated
    from tutelage.cli.update_order import Candidate, Ordered
    from tutelage.continual.state import State


def write_update(order: Ordered, candidate: Candidate, state: State, command: str) -> Path:
    """The page of a candidate in the folder of its run.

    Args:
        order: what was asked.
        candidate: what came of it.
        state: of the new version.
        command: the one that makes this update alone.
    """
    from tutelage.report.update.write import write_update_report

    space = candidate.updated.update.space
    figures = update_figures(order, candidate, state, command)
    return write_update_report(figures, space.runs / candidate.updated.update.run)


def update_figures(order: Ordered, candidate: Candidate, state: State, command: str) -> UpdateReport:
    """All figures of the report."""
    from tutelage.cli.figures import surroundings
    from tutelage.cli.update_order import CANDIDATE, REJECTED
    from tutelage.config.load import job_digest

    found, verdict = candidate.updated, candidate.verdict
    update, around = found.update, surroundings("")
    total = candidate.summary
    return UpdateReport(
        run=update.run,
        job=candidate.version.name,
        version=candidate.version.ref,
        parent=order.version.ref,
        alias=CANDIDATE if verdict.passed else REJECTED,
        created=around["created"],
        command=command,
        seconds=candidate.seconds,
        passed=verdict.passed,
        problems=list(verdict.problems),
        fix=verdict.fix,
        gained=verdict.gained,
        max_forgetting=update.config.gate.max_forgetting,
        min_gain=update.config.gate.min_gain,
        holdout=update.config.holdout,
        slices=_slices(candidate),
        dips=[Dip(slice=name, **asdict(dip)) for name, dip in found.dips.items()],
        watched=update.config.watch,
        history=[
            Training(run=one.run, slices=one.slices, accuracy=dict(one.accuracy), before=dict(one.before))
            for one in candidate.history
        ],
        matrix=[list(row) for row in candidate.matrix],
        summary=StreamSummary(
            accuracy=total.accuracy,
            backward=total.backward,
            forward=total.forward,
            forgetting=total.forgetting,
            minimum=total.minimum,
        ),
        choice=_choice(found),
        kept=_kept(found, state),
        training=TrainingCost(
            steps=found.result["steps"],
            seconds=found.result["seconds"],
            precision=found.result["precision"],
            workers=found.result.get("workers"),
            new_texts=len(update.new_rows),
        ),
        digests={
            "data and settings": update.data,
            "weights": state.about.model,
            "weights before": update.state.about.model,
            "job": job_digest(order.job.loaded.job),
        },
        machine=around["machine"],
        packages=around["versions"],
        config_yaml=order.job.yaml,
        next_command=candidate.next_command,
    )


def _slices(candidate: Candidate) -> list[SliceFigure]:
    """In the order in which the version learned them."""
    from actors.evaluate import labelled_rows

    found = candidate.updated
    before, after = found.before.by_slice, found.after.by_slice
    examples = found.update.examples
    rows = Counter(examples.slices(labelled_rows(examples, "test")))
    learned = [name for one in candidate.history for name in one.slices]
    names = [name for name in dict.fromkeys([*learned, *after]) if name in after or name in found.new_slices]
    return [
        SliceFigure(
            name=name,
            new=name in found.new_slices,
            rows=rows[name],
            before=before.get(name),
            after=after.get(name),
        )
        for name in names
    ]


def _choice(found: Updated) -> Choice | None:
    """None where lambda was given."""
    section = found.update.config.regulariser
    if section is None or section.strength != "auto":
        return None
    examples = found.update.examples.select("validation", sources=found.update.new)
    return Choice(
        rows=int(examples.labelled.sum()),
        plain=found.plain,
        tolerance=section.tolerance,
        attempts=[Attempt(strength=lam, accuracy=value) for lam, value in found.attempts],
    )


def _kept(found: Updated, state: State) -> Kept:
    config = found.update.config
    held, distil, replay = config.regulariser, config.distil, config.replay
    listened = distil is not None and distil.weight > 0
    return Kept(
        regulariser=held.type if held else None,
        strength=found.strength,
        step=held.step if held else "",
        measured=_measured(found.update.state.about.measured) if held else "",
        distil_weight=distil.weight if distil and listened else None,
        temperature=distil.temperature if distil and listened else None,
        replay=replay.type if replay else None,
        budget_bytes=1000 * replay.kilobytes if replay else None,
        share=replay.share if replay else None,
        logits=replay.logits if replay and replay.logits else None,
        memory=memory_of(state.replay),
        teachers=[
            TeacherShare(
                name=spec.name, fingerprint=spec.fingerprint, **_work(found.result["teachers"].get(spec.name))
            )
            for spec in found.teachers
        ],
    )


def _measured(about: dict[str, Any]) -> str:
    """How the importance that held this training was measured, in words."""
    words = [str(about[key]) for key in ("kind", "mode") if about.get(key)]
    texts = about.get("examples")
    return ", ".join([*words, *([f"on {texts:,} texts"] if texts else [])])


def _work(view: dict[str, Any] | None) -> dict[str, int]:
    if view is None:
        return {}
    return {"calls": int(view["calls"]), "texts": int(view["examples"]), "cached": int(view["cached"])}


def memory_of(folder: Path) -> list[MemoryFigure]:
    """Texts and bytes of a replay buffer by slice; none where there is no buffer."""
    from tutelage.continual.replay import load
    from tutelage.continual.replay.item import measure

    texts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for item in load(folder) if folder.exists() else ():
        texts[item.slice] += 1
        sizes[item.slice] += measure(item, item.key)[1]
    return [MemoryFigure(slice=name, texts=texts[name], size_bytes=sizes[name]) for name in texts]
