"""The outcome in one sentence and four figures, written from the claims."""

from __future__ import annotations

from dataclasses import dataclass

from tutelage.report.claims import Claims, size_kind
from tutelage.report.figures import Report
from tutelage.report.numbers import duration, fixed, megabytes, millions, percent, significant, signless
from tutelage.report.plot_size import common_condition


@dataclass(frozen=True)
class Tile:
    """One key figure: what it is, the number with its unit, and what to compare it with."""

    label: str
    value: str
    unit: str
    notes: tuple[str, ...] = ()


def outcome(report: Report, found: Claims) -> str:
    """What came out, in plain words; the time alone where nothing was compared."""
    if found.student is None:
        return f"Finished in {duration(report.seconds)}."
    size = _student_parameters(report)
    subject = f"One student{f' of {millions(size)} million parameters' if size else ''}"
    sentence = f"{subject} answers {percent(found.student.mean)} % of the test texts right"
    against = []
    if found.student_over_best_teacher is not None:
        against.append(f"{_against(found.student_over_best_teacher)} the best single teacher")
    if found.student_over_uniform is not None:
        against.append(f"{_against(found.student_over_uniform)} the uniform mean of all teachers")
    if not against:
        return sentence + "."
    return f"{sentence}: {' and '.join(against)}."


def recovered(found: Claims) -> list[str]:
    """One sentence for each domain where the uniform mean loses to a specialist."""
    sentences = []
    for gap in found.gaps:
        lost = fixed(gap.gap * 100)
        text = f"On {gap.slice} the uniform mean stands {lost} points below the specialist {gap.specialist}"
        if gap.combiner_won_back is None:
            sentences.append(text + ".")
        elif gap.combiner_won_back < 0:
            sentences.append(
                f"{text}; the combiner loses another {fixed(-gap.combiner_won_back * gap.gap * 100)}."
            )
        elif gap.combiner_won_back >= 1:
            sentences.append(f"{text}; the combiner wins all of it back.")
        else:
            sentences.append(f"{text}; the combiner wins {percent(gap.combiner_won_back, 0)} % of it back.")
    return sentences


def tiles(report: Report, found: Claims) -> list[Tile]:
    """Accuracy, size, latency and time; those without a figure are left out."""
    result = []
    if found.student:
        notes = [
            f"{label} {percent(row.mean)} %"
            for label, row in (("best teacher", found.best_teacher), ("uniform mean", found.uniform))
            if row
        ]
        result.append(Tile("Mean accuracy of the student", percent(found.student.mean), "%", tuple(notes)))
    if found.size_ratio and found.teacher_bytes and found.student_bytes:
        note = f"{megabytes(found.student_bytes)} MB instead of {megabytes(found.teacher_bytes)} MB"
        result.append(Tile("Smaller than its teachers together", fixed(found.size_ratio), "\u00d7", (note,)))
    latency = _latency(report)
    if latency:
        result.append(latency)
    stages = f"{len(report.stages)} stages" if report.stages else ""
    value, _, unit = duration(report.seconds).partition("\u202f")
    where = f"on {report.machine.cores} CPU cores" if report.machine.cores else ""
    notes = [" ".join(text for text in (stages, where) if text)] if stages or where else []
    result.append(Tile("Total time", value, unit, tuple(notes)))
    return result


def _latency(report: Report) -> Tile | None:
    condition = common_condition(report.latency)
    rows = [r for r in report.latency if (r.batch, r.tokens) == condition and r.p50_ms]
    kinds = {row.name: size_kind(row, report) for row in report.sizes}
    student = min((r.p50_ms for r in rows if kinds.get(r.name) == "student" and r.p50_ms), default=None)
    teacher = min((r.p50_ms for r in rows if kinds.get(r.name) == "teacher" and r.p50_ms), default=None)
    notes = [f"a teacher takes {significant(teacher)} ms"] if student and teacher else []
    if report.endpoint and report.endpoint.p50_ms is not None:
        notes.insert(0, f"over HTTP {significant(report.endpoint.p50_ms)} ms")
    if student is not None and condition:
        return Tile(
            "Median latency of one text" if condition[0] == 1 else f"Median latency, batch {condition[0]}",
            significant(student),
            "ms",
            tuple(notes),
        )
    if report.endpoint and report.endpoint.p50_ms is not None:
        return Tile("Median latency over HTTP", significant(report.endpoint.p50_ms), "ms")
    return None


def _student_parameters(report: Report) -> int | None:
    rows = [r.parameters for r in report.sizes if size_kind(r, report) == "student" and r.parameters]
    return rows[0] if rows else None


def _against(difference: float) -> str:
    text = signless(fixed(abs(difference) * 100))
    if text == "0.0":
        return "as many as"
    return f"{text} points {'more' if difference > 0 else 'fewer'} than"
