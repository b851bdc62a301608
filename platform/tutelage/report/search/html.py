"""One self-contained HTML page from a search: no script, no request, the same bytes for the same figures.

Every text is escaped by the template; markup is made only by the plot modules, which escape what they place.
"""

from __future__ import annotations

from functools import partial

from markupsafe import Markup

from tutelage.report.page import in_two_widths, page_template
from tutelage.report.search import summary, tables
from tutelage.report.search.curves import learning_plot
from tutelage.report.search.figures import SearchReport
from tutelage.report.search.importance import importance_plot
from tutelage.report.search.parallel import drawn_keys, parallel_plot
from tutelage.report.search.pareto import amount_field, beyond_edge, outcome_plot
from tutelage.report.search.scales import GRADES
from tutelage.report.search.words import NAMES
from tutelage.report.svg import Canvas


def render(report: SearchReport) -> str:
    """The page as text, to be written as UTF-8."""
    head, rows = tables.trial_table(report)
    field = amount_field(report)
    near = summary.near_miss(report)
    return page_template("search.html.j2").render(
        report=report,
        outcome=summary.outcome(report),
        tiles=summary.tiles(report),
        plots=_plots(report),
        against=NAMES[field] if field else None,
        edge=beyond_edge(report),
        front=sum(trial.id in report.front for trial in report.trials),
        head=head,
        rows=rows,
        failures=tables.failures(report)[: tables.MOST_ROWS],
        failed=len(tables.failures(report)),
        searched=tables.searched(report),
        drawn=len(drawn_keys(report)),
        asked=summary.asked(report),
        winner=tables.winner_facts(report),
        optimism=tables.optimism(report),
        near=tables.near_settings(report, near) if near else [],
        misses=summary.misses(report),
        setup=tables.setup(report),
        swatches=_swatches(report, pareto=field is not None),
        created=report.created.replace("T", " ").split(".")[0].removesuffix("+00:00").removesuffix("Z"),
        config=report.config_yaml.strip("\n"),
    )


def _plots(report: SearchReport) -> dict[str, Markup | None]:
    makers = {
        "outcome": outcome_plot,
        "parallel": parallel_plot,
        "curves": learning_plot,
        "importance": importance_plot,
    }
    return in_two_widths({name: partial(make, report) for name, make in makers.items()})


def _swatches(report: SearchReport, *, pareto: bool) -> dict[str, list[tuple[Markup, str]]]:
    """The keys of the plots: only what is in them."""
    ranked = report.ranked()
    best = report.trial(report.best) in ranked
    dots = [(_dot("star", "mark student", 7.5), "best")] if best else []
    if pareto and any(trial.id in report.front and trial.id != report.best for trial in ranked):
        dots.append((_dot("circle", "mark student", 5), "beaten by none in both"))
    dots.append((_dot("circle", "mark dominated", 4.5), "ran to the end"))
    if any(trial.status == "stopped" for trial in ranked):
        dots.append((_dot("circle", "mark halfway", 4.5), "stopped early"))
    if not pareto and report.unranked():
        dots.append((_stroke("cross", "M4.5,4.5l7,7m0,-7l-7,7"), "no result"))
    lines = [(_stroke("curve best", "M1,8h14"), "best")] if best or ranked else []
    fifths = [GRADES - 1, GRADES // 2, 0] if len(ranked) >= GRADES else [GRADES - 1]
    words = ["best fifth", "middle", "last fifth"] if len(fifths) > 1 else ["others"]
    fifths = fifths if len(ranked) > 1 else []
    lines += [
        (_stroke(f"curve q{fifth}", "M1,8h14"), word) for fifth, word in zip(fifths, words, strict=False)
    ]
    lost = [(_stroke("curve lost", "M1,8h14"), "no result")]
    bar = [(_stroke("stop q2", "M8,3v10"), "stopped early")]
    stopped = any(trial.status == "stopped" and trial.curve for trial in report.trials)
    curves = [*lines, *(bar if stopped else [])]
    curves += (
        [(_stroke("cross", "M4.5,4.5l7,7m0,-7l-7,7"), "no result")]
        if any(trial.curve for trial in report.unranked())
        else []
    )
    return {"outcome": dots, "parallel": lines + (lost if report.unranked() else []), "curves": curves}


def _dot(shape: str, css: str, size: float) -> Markup:
    canvas = Canvas(16, 16, key="", title="", description="")
    canvas.marker(8, 8, shape, css, size=size)
    return canvas.icon()


def _stroke(css: str, d: str) -> Markup:
    canvas = Canvas(16, 16, key="", title="", description="")
    canvas.path(d, css)
    return canvas.icon()
