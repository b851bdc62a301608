"""The outcome in one sentence and four figures, written from the claims."""

from __future__ import annotations

from dataclasses import dataclass

from tutelage.report.claims import Claims, size_kind
from tutelage.report.figures import Report
from tutelage.report.numbers import duration, fixed, megabytes, millions, percent, significant
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
    share = f"{percent(found.student.mean)}\u00a0%"
    sentence = f"{subject} answers {share} of the test texts right"
    if not report.counts_texts:
        sentence = f"{subject} reaches {share} {report.measure} on the test texts"
    against = []
    for row, words in (
        (found.best_teacher, "the best single teacher"),
        (found.uniform, "the uniform mean of all teachers"),
    ):
        if row is not None and row.mean is not None and found.student.mean is not None:
            texts = report.counts_texts
            against.append(f"{_against(found.student.mean, row.mean, texts=texts)} {words}")
    if not against:
        return sentence + "."
    return f"{sentence}: {' and '.join(against)}."


def kept(report: Report, found: Claims) -> str:
    """How much of the teachers' accuracy the student has, at which size; "" where nobody can be compared."""
    if found.student is None:
        return ""
    shares = [(found.kept_of_best_teacher, f"the best single teacher's {report.measure}")]
    shares.append((found.kept_of_uniform, "that of the uniform mean"))
    words = [f"{percent(share)}\u00a0% of {whose}" for share, whose in shares if share is not None]
    if not words:
        return ""
    size = ""
    if found.size_ratio and found.teacher_bytes and found.student_bytes:
        mb = [f"{megabytes(value)}\u00a0MB" for value in (found.student_bytes, found.teacher_bytes)]
        size = f" at {percent(1 / found.size_ratio)}\u00a0% of the teachers' size ({mb[0]} of {mb[1]})"
    return f"The student keeps {' and '.join(words)}{size}."


def recovered(found: Claims) -> list[str]:
    """One sentence for each domain where the uniform mean loses to a specialist."""
    sentences = []
    for gap in found.gaps:
        lost, best = fixed(gap.gap * 100), f"the best teacher there ({gap.specialist})"
        text = f"On {gap.slice} the uniform mean stands {lost}\u00a0points below {best}"
        if gap.combiner_won_back is None:
            sentences.append(text + ".")
        elif gap.combiner_won_back < 0:
            more = fixed(-gap.combiner_won_back * gap.gap * 100)
            sentences.append(f"{text}; the combiner loses {more}\u00a0points more.")
        elif gap.combiner_won_back >= 1:
            sentences.append(f"{text}; the combiner wins all of it back.")
        else:
            sentences.append(f"{text}; the combiner wins {percent(gap.combiner_won_back, 0)} % of it back.")
    return sentences


def tiles(report: Report, found: Claims) -> list[Tile]:
    """Accuracy, size, latency and time; those without a figure are left out."""
    size = _size(report, found)
    return [tile for tile in (_accuracy(report, found), size, _latency(report), _time(report)) if tile]


def _accuracy(report: Report, found: Claims) -> Tile | None:
    if found.student is None:
        return None
    rows = [("best teacher", found.best_teacher), ("uniform mean", found.uniform)]
    rows += [("as int8", row) for row in report.accuracy if row.kind == "student" and row.runtime == "int8"]
    notes = tuple(f"{label} {percent(row.mean)} %" for label, row in rows if row and row is not found.student)
    return Tile(f"Mean {report.measure} of the student", percent(found.student.mean), "%", notes)


def _size(report: Report, found: Claims) -> Tile | None:
    if not (found.size_ratio and found.teacher_bytes and found.student_bytes):
        return None
    name = next(row.name for row in report.sizes if row.bytes == found.student_bytes)
    teachers = sum(size_kind(row, report) == "teacher" for row in report.sizes)
    notes = (
        f"{name} {megabytes(found.student_bytes)} MB",
        f"{teachers} teachers {megabytes(found.teacher_bytes)} MB",
    )
    return Tile("Smaller than its teachers together", fixed(found.size_ratio), "\u00d7", notes)


def _latency(report: Report) -> Tile | None:
    condition = common_condition(report.latency)
    kinds = {row.name: size_kind(row, report) for row in report.sizes}
    times = [
        (row.p50_ms, row.name)
        for row in report.latency
        if (row.batch, row.tokens) == condition and row.p50_ms
    ]
    student = min((time for time in times if kinds.get(time[1]) == "student"), default=None)
    teacher = min((time for time in times if kinds.get(time[1]) == "teacher"), default=None)
    http = report.endpoint.p50_ms if report.endpoint else None
    over_http = (f"over HTTP {significant(http, 2)} ms",) if http is not None else ()
    if student is None or condition is None:
        return Tile("Median latency over HTTP", significant(http, 2), "ms") if http is not None else None
    label = "Median latency of one text" if condition[0] == 1 else f"Median latency of {condition[0]} texts"
    notes = (student[1], *((f"a teacher {significant(teacher[0], 2)} ms",) if teacher else ()), *over_http)
    return Tile(label, significant(student[0], 2), "ms", notes)


def _time(report: Report) -> Tile:
    whole = round(report.seconds)
    value, unit = duration(report.seconds).rsplit("\u202f", 1)
    if 60 <= whole < 3600:
        value, unit = f"{whole // 60}:{whole % 60:02d}", "min"
    elif whole >= 3600:
        value, unit = f"{whole // 3600}:{whole % 3600 // 60:02d}", "h"
    machine = f"on {report.machine.cores} CPU cores" if report.machine.cores else ""
    stages = f"{len(report.stages)} stages" if report.stages else ""
    return Tile("Total time", value, unit, tuple(note for note in (stages, machine) if note))


def _student_parameters(report: Report) -> int | None:
    rows = [r.parameters for r in report.sizes if size_kind(r, report) == "student" and r.parameters]
    return rows[0] if rows else None


def _against(one: float, other: float, *, texts: bool) -> str:
    """The difference of the two numbers as they are printed, so that a reader who subtracts agrees."""
    difference = round(round(one * 100, 1) - round(other * 100, 1), 1)
    if not difference:
        return "as many as" if texts else "the same as"
    more, fewer = ("more than", "fewer than") if texts else ("above", "below")
    return f"{fixed(abs(difference))}\u00a0points {more if difference > 0 else fewer}"
