"""What the rows of a report prove: computed from the figures, never passed in.

Gap of a domain: accuracy of its best teacher (the specialist) minus accuracy of the uniform ensemble, where
that is positive. Share won back by a model = (its accuracy - uniform) / gap: 0 is no better than the uniform
ensemble, 1 is as good as the specialist, below 0 lost more, above 1 passed the specialist.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from pydantic import Field

from tutelage.report.figures import AccuracyRow, Figures, Measured, ModelKind, Report, SizeRow

_RUNTIME_ORDER = ("torch", "onnx", "int8", None)
_Z95 = 1.96


class Gap(Figures):
    """A domain where the uniform ensemble loses to a specialist, and how much of that was won back."""

    slice: str
    specialist: str
    specialist_accuracy: float
    uniform: float
    gap: float
    combiner: Measured = None
    combiner_won_back: Measured = None
    student: Measured = None
    student_won_back: Measured = None


class Claims(Figures):
    """Mean accuracies compared; differences are fractions of one, None where a side is missing."""

    student: AccuracyRow | None = None
    best_teacher: AccuracyRow | None = None
    uniform: AccuracyRow | None = None
    combiner: AccuracyRow | None = None
    kept_of_best_teacher: Measured = None
    kept_of_uniform: Measured = None
    student_over_best_teacher: Measured = None
    student_over_uniform: Measured = None
    combiner_over_uniform: Measured = None
    beats_best_teacher: bool | None = None
    beats_uniform: bool | None = None
    gaps: list[Gap] = Field(default_factory=list)
    half_width: Measured = None
    teacher_bytes: int | None = None
    student_bytes: int | None = None
    size_ratio: Measured = None


def claims(report: Report) -> Claims:
    """Compare the student with the best single teacher (by mean), the uniform ensemble and the combiner.

    kept: the student's mean over the other's. half_width: of the 95 % interval of the student's mean; where
    the row has none, by the normal approximation 1.96 sqrt(p(1-p)/N), and None where the metric is then no
    share of independent texts.
    size_ratio: bytes of all teachers together over bytes of the smallest student artifact.
    """
    student = student_row(report)
    teachers = [row for row in report.accuracy if row.kind == "teacher" and row.mean is not None]
    best = max(teachers, key=lambda row: row.mean or 0.0, default=None)
    uniform = _first(report, "ensemble")
    combiner = _first(report, "combiner", report.combiner.name if report.combiner else None)
    teacher_bytes, student_bytes = _weights(report)
    over_best, over_uniform = _difference(student, best), _difference(student, uniform)
    return Claims(
        student=student,
        best_teacher=best,
        uniform=uniform,
        combiner=combiner,
        kept_of_best_teacher=_kept(student, best),
        kept_of_uniform=_kept(student, uniform),
        student_over_best_teacher=over_best,
        student_over_uniform=over_uniform,
        combiner_over_uniform=_difference(combiner, uniform),
        beats_best_teacher=None if over_best is None else over_best > 0,
        beats_uniform=None if over_uniform is None else over_uniform > 0,
        gaps=list(_gaps(report, teachers, uniform, combiner, student)),
        half_width=_half_width(student, texts=report.counts_texts),
        teacher_bytes=teacher_bytes,
        student_bytes=student_bytes,
        size_ratio=teacher_bytes / student_bytes if teacher_bytes and student_bytes else None,
    )


def student_row(report: Report) -> AccuracyRow | None:
    """The student as it was trained (torch), or the next runtime that was measured."""
    rows = [row for row in report.accuracy if row.kind == "student" and row.mean is not None]
    return min(rows, key=lambda row: _RUNTIME_ORDER.index(row.runtime), default=None)


def size_kind(row: SizeRow, report: Report) -> str | None:
    """`teacher`, `student` or None; a row without a kind is told by its name."""
    if row.kind:
        return row.kind
    if row.name in report.teacher_names():
        return "teacher"
    return "student" if row.name.lower().startswith("student") else None


def _first(report: Report, kind: ModelKind, name: str | None = None) -> AccuracyRow | None:
    rows = [row for row in report.accuracy if row.kind == kind and row.mean is not None]
    return next((row for row in rows if row.model == name), rows[0] if rows else None)


def _difference(one: AccuracyRow | None, other: AccuracyRow | None) -> float | None:
    if one is None or other is None or one.mean is None or other.mean is None:
        return None
    return round(one.mean - other.mean, 9)  # 0.1 + 0.2 noise must not turn a tie into a win


def _kept(student: AccuracyRow | None, other: AccuracyRow | None) -> float | None:
    if student is None or other is None or student.mean is None or not other.mean:
        return None
    return student.mean / other.mean


def _half_width(row: AccuracyRow | None, *, texts: bool) -> float | None:
    if row is not None and row.low is not None and row.high is not None:
        return (row.high - row.low) / 2
    if row is None or row.mean is None or row.examples <= 0 or not texts:
        return None
    return _Z95 * math.sqrt(row.mean * (1 - row.mean) / row.examples)


def _weights(report: Report) -> tuple[int | None, int | None]:
    teachers = [row.bytes for row in report.sizes if size_kind(row, report) == "teacher"]
    students = [row.bytes for row in report.sizes if size_kind(row, report) == "student"]
    return sum(teachers) or None, min(students, default=None)


def _gaps(
    report: Report,
    teachers: list[AccuracyRow],
    uniform: AccuracyRow | None,
    combiner: AccuracyRow | None,
    student: AccuracyRow | None,
) -> Iterable[Gap]:
    if uniform is None:
        return
    for name in report.slices():
        known = [
            (accuracy, row.model) for row in teachers if (accuracy := row.by_slice.get(name)) is not None
        ]
        base = uniform.by_slice.get(name)
        if not known or base is None:
            continue
        top, specialist = max(known, key=lambda pair: pair[0])
        gap = round(top - base, 9)
        if gap > 0:
            by_combiner = combiner.by_slice.get(name) if combiner else None
            by_student = student.by_slice.get(name) if student else None
            yield Gap(
                slice=name,
                specialist=specialist,
                specialist_accuracy=top,
                uniform=base,
                gap=gap,
                combiner=by_combiner,
                combiner_won_back=None if by_combiner is None else (by_combiner - base) / gap,
                student=by_student,
                student_won_back=None if by_student is None else (by_student - base) / gap,
            )
