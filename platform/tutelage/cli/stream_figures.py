"""The figures of a report that speak of the stream: teachers and parity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tutelage.report.figures import Parity, TeacherFigure

if TYPE_CHECKING:
    from actors.distill import Distilled
    from actors.workspace import Workspace


def teacher_figures(space: Workspace, student: Distilled) -> list[TeacherFigure]:
    """What each fleet did, what it sent, and why that. A teacher of an old result has dashes."""
    from actors.live import cached_share
    from actors.payloads import planned
    from tutelage.signals.planned import describe

    choices = {choice.teacher: choice for choice in planned(space, {})}
    replicas = {teacher.name: teacher for teacher in space.job.teachers}
    return [
        TeacherFigure(
            name=name,
            payload=describe(choices[name].spec),
            reason=choices[name].reason,
            bytes_position=view.get("bytes_position") if view.get("positions") else None,
            replicas=int(view.get("replicas", replicas[name].min_replicas)),
            max_replicas=replicas[name].most_replicas,
            p50_ms=view["p50_ms"] if view["calls"] else None,
            queue_p50_ms=view.get("queue_p50_ms") if view["calls"] else None,
            wait_share=view.get("wait_share"),
            cache_hits=view["cached"],
            cached_share=cached_share(view),
            notes=[note for note in student.result.get("notes", []) if f"'{name}'" in note],
            **_counts(view),
        )
        for name, view in student.result["teachers"].items()
    ]


def _counts(view: Mapping[str, float]) -> dict[str, Any]:
    names = ("calls", "examples", "bytes_sent", "bytes_received", "retries")
    newer = ("hedges", "respawns", "lost_batches")
    return {name: int(view[name]) for name in names} | {name: int(view.get(name, 0)) for name in newer}


def parity_figure(student: Distilled) -> Parity | None:
    """Streamed signals against local ones; None where nothing was compared."""
    from actors.evaluate import PARITY_TOLERANCE

    judged = student.judgement
    if judged.parity is None:
        return None
    return Parity(
        max_abs_diff=judged.parity,
        examples=judged.parity_examples,
        same_label=round(judged.parity_same_label * judged.parity_examples),
        tolerance=PARITY_TOLERANCE,
        ok=judged.parity <= PARITY_TOLERANCE,
    )
