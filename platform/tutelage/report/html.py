"""One self-contained HTML page from a report: no script, no request, readable with the network off.

The same report gives the same bytes. Every text is escaped by the template; markup is made only by the plot
modules of this package, which escape what they place. A content security policy forbids the page to load
or run anything, whatever a text contains.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from markupsafe import Markup

from tutelage.report import numbers
from tutelage.report.claims import claims
from tutelage.report.figures import Answer, Report
from tutelage.report.page import in_two_widths, page_template
from tutelage.report.plot_accuracy import Mark, accuracy_plot, marks, teacher_mark
from tutelage.report.plot_curves import student_plot, teachers_plot
from tutelage.report.plot_size import common_condition, size_plot
from tutelage.report.stream_tables import absences, reasons, sent_rows, went_rows
from tutelage.report.summary import kept, outcome, recovered, tiles
from tutelage.report.svg import Canvas
from tutelage.report.tables import accuracy_cells, artifacts, bars, latency_cells


def render(report: Report) -> str:
    """The page as text, to be written as UTF-8."""
    found = claims(report)
    return page_template("report.html.j2").render(
        report=report,
        claims=found,
        outcome=outcome(report, found),
        kept=kept(report, found),
        recovered=recovered(found),
        tiles=tiles(report, found),
        slices=report.slices(),
        accuracy=accuracy_cells(report),
        key=[(mark, _swatch(mark)) for mark, _ in marks(report)],
        swatches={name: _swatch(teacher_mark(report, name)) for name in report.teacher_names()},
        hues={name: teacher_mark(report, name).css.split()[1] for name in report.teacher_names()},
        bars=bars(report),
        artifacts=artifacts(report),
        latency=latency_cells(report),
        answers=_answers(report),
        sent=sent_rows(report),
        went=went_rows(report),
        absences=absences(report),
        reasons=reasons(report),
        plots=_plots(report),
        created=report.created.replace("T", " ").split(".")[0].removesuffix("+00:00"),
        condition=common_condition(report.latency),
        peak_lr=_peak_lr(report),
        lost_from=lost_from(report),
        lineage=[(name, _plain(value)) for name, value in report.lineage.items()],
        config=report.config_yaml.strip("\n"),
    )


def _plots(report: Report) -> dict[str, Markup | None]:
    student = next((curve for curve in report.curves if curve.kind == "student" and curve.points), None)
    makers: dict[str, Callable[[float, str], Markup | None]] = {
        "accuracy": lambda width, key: accuracy_plot(report, width, key),
        "teachers": lambda width, key: teachers_plot(report, width, key),
        "student": lambda width, key: student_plot(student, width, key) if student else None,
        "size": lambda width, key: size_plot(report, min(width, 520.0), key),
    }
    return in_two_widths(makers)


def _swatch(mark: Mark) -> Markup:
    canvas = Canvas(16, 16, key="", title="", description="")
    canvas.marker(8, 8, mark.shape, mark.css, size=6.5 if "ring" in mark.css else 5.0)
    return canvas.icon()


def lost_from(report: Report) -> int | None:
    """The step from which on the student's loss was never finite again; None when the last one is."""
    step = None
    for point in next((curve.points for curve in report.curves if curve.kind == "student"), []):
        step = None if point.loss is not None else point.step if step is None else step
    return step


def _peak_lr(report: Report) -> float | None:
    rates = [
        p.lr for curve in report.curves if curve.kind == "student" for p in curve.points if p.lr is not None
    ]
    return max(rates, default=None)


def _answers(report: Report) -> list[tuple[Answer, str]]:
    answers = report.endpoint.answers if report.endpoint else []
    times = numbers.column([answer.latency_ms for answer in answers])
    return list(zip(answers, times, strict=True))


def _plain(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
