"""One self-contained HTML page from an update: no script, no request, the same bytes for the same figures.

Every text is escaped by the template; markup is made only by the plot modules, which escape what they place.
"""

from __future__ import annotations

from functools import partial

from markupsafe import Markup

from tutelage.report.numbers import count, duration
from tutelage.report.page import in_two_widths, page_template
from tutelage.report.svg import Canvas
from tutelage.report.update import summary, tables
from tutelage.report.update.change import change_plot, fallen, limits_shown
from tutelage.report.update.figures import UpdateReport
from tutelage.report.update.history import history_plot
from tutelage.report.update.strengths import strength_plot


def render(report: UpdateReport) -> str:
    """The page as text, to be written as UTF-8."""
    names, rows = tables.history_rows(report)
    return page_template("update.html.j2").render(
        report=report,
        outcome=summary.outcome(report),
        tiles=summary.tiles(report),
        checks=summary.checks(report),
        plots=in_two_widths(
            {
                "change": partial(change_plot, report),
                "history": partial(history_plot, report),
                "strength": partial(strength_plot, report),
            }
        ),
        key=_key(report),
        limit=limits_shown(report),
        changes=tables.change_rows(report),
        dips=tables.dip_rows(report),
        names=names,
        history=rows if len(report.history) > 2 else [],
        matrix=tables.matrix_rows(report),
        measures=tables.measures(report),
        trainings=tables.training_rows(report),
        attempts=tables.attempt_rows(report),
        held=tables.held_facts(report),
        memory=tables.memory_rows(report),
        teachers=tables.teacher_rows(report),
        cost=_cost(report),
        created=report.created.replace("T", " ").split(".")[0].removesuffix("+00:00").removesuffix("Z"),
        config=report.config_yaml.strip("\n"),
    )


def _key(report: UpdateReport) -> list[tuple[Markup, str]]:
    """What the marks of the first plot mean; only those that are in it."""
    pairs = [(_dot("circle", "mark hollow"), "before"), (_dot("circle", "mark student"), "after")]
    if any(one.new for one in report.slices):
        pairs.append((_dot("diamond", "mark student"), "new slice"))
    if any(fallen(report, one) for one in report.slices):
        pairs.append((_dot("circle", "mark fallen"), "fell too far"))
    if limits_shown(report):
        pairs.append((_stroke("limit", "M8,1v14"), "gate's limit"))
    pairs.append((_stroke("whisker thin", "M1,8h14M1,5v6M15,5v6"), "95\u00a0% interval"))
    return pairs


def _dot(shape: str, css: str) -> Markup:
    canvas = Canvas(16, 16, key="", title="", description="")
    canvas.marker(8, 8, shape, css, size=5)
    return canvas.icon()


def _stroke(css: str, d: str) -> Markup:
    canvas = Canvas(16, 16, key="", title="", description="")
    canvas.path(d, css)
    return canvas.icon()


def _cost(report: UpdateReport) -> list[tuple[str, str]]:
    cost = report.training
    return [
        ("new texts", count(cost.new_texts) if cost.new_texts is not None else ""),
        ("steps", count(cost.steps) if cost.steps is not None else ""),
        ("time", duration(cost.seconds) if cost.seconds is not None else ""),
        ("precision", cost.precision),
        ("workers", count(cost.workers) if cost.workers is not None else ""),
    ]
