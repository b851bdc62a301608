"""Rows and sentences of the page's section on the stream."""

from __future__ import annotations

from dataclasses import dataclass

from tutelage.report.figures import Report, TeacherFigure
from tutelage.report.numbers import DASH, column, count, percent


@dataclass(frozen=True)
class FleetRow:
    """One teacher with its figures as text."""

    name: str
    payload: str
    texts: tuple[str, ...]


def sent_rows(report: Report) -> list[FleetRow]:
    """Bytes a position, texts, share from the store, MB sent and received."""
    teachers = report.teachers
    return _rows(
        teachers,
        [
            column([t.bytes_position for t in teachers]),
            [count(t.examples) for t in teachers],
            [percent(t.cached_share) for t in teachers],
            column([t.bytes_sent / 1e6 for t in teachers]),
            column([t.bytes_received / 1e6 for t in teachers]),
        ],
    )


def went_rows(report: Report) -> list[FleetRow]:
    """Replicas, calls, times, share of waiting, faults; batches without it where any teacher was left out."""
    teachers = report.teachers
    columns = [
        [_replicas(t) for t in teachers],
        [count(t.calls) for t in teachers],
        column([t.p50_ms for t in teachers]),
        column([t.queue_p50_ms for t in teachers]),
        [percent(t.wait_share) for t in teachers],
        [count(t.retries) for t in teachers],
        [count(t.hedges) for t in teachers],
        [count(t.respawns) for t in teachers],
    ]
    if absences(report):
        columns.append([count(t.lost_batches) for t in teachers])
    return _rows(teachers, columns)


def absences(report: Report) -> list[str]:
    """One sentence for each teacher that the training went on without, and what is known of it."""
    sentences = []
    for teacher in report.teachers:
        if teacher.lost_batches:
            batches = f"{teacher.lost_batches:,} batch{'es' if teacher.lost_batches > 1 else ''}"
            said = f" ({'; '.join(teacher.notes)})" if teacher.notes else ""
            sentences.append(
                f"The training went on without {teacher.name} for {batches}; "
                f"the others\u2019 weights were raised to add up to one{said}."
            )
    return sentences


def reasons(report: Report) -> list[tuple[str, str]]:
    """Why each teacher sends what it sends; once for teachers that have the same reason."""
    names: dict[str, list[str]] = {}
    for teacher in report.teachers:
        if teacher.reason:
            names.setdefault(teacher.reason, []).append(teacher.name)
    return [(", ".join(those), reason) for reason, those in names.items()]


def _rows(teachers: list[TeacherFigure], columns: list[list[str]]) -> list[FleetRow]:
    return [
        FleetRow(teacher.name, teacher.payload or DASH, texts)
        for teacher, *texts_list in zip(teachers, *columns, strict=True)
        for texts in (tuple(str(text) for text in texts_list),)
    ]


def _replicas(teacher: TeacherFigure) -> str:
    most = teacher.max_replicas
    return (
        f"{teacher.replicas}\u202fof\u202f{most}"
        if most and most > teacher.replicas
        else count(teacher.replicas)
    )
