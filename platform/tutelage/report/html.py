"""One self-contained HTML page from a report: no script, no request, readable with the network off.

The same report gives the same bytes. Every text is escaped by the template; markup is made only by the plot
modules of this package, which escape what they place. A content security policy forbids the page to load
or run anything, whatever a text contains.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from tutelage.report import numbers
from tutelage.report.claims import Claims, claims
from tutelage.report.figures import AccuracyRow, Report, StageFigure
from tutelage.report.plot_accuracy import Mark, accuracy_plot, marks, teacher_mark
from tutelage.report.plot_curves import student_plot, teachers_plot
from tutelage.report.plot_size import common_condition, size_plot
from tutelage.report.summary import outcome, recovered, tiles
from tutelage.report.svg import Canvas

if TYPE_CHECKING:
    from jinja2 import Template

WIDE, NARROW = 780.0, 350.0
_TINTS = 6


@dataclass(frozen=True)
class Cell:
    """One accuracy: its text, its tint from 0 (lowest of the column) to 5, and whether it is the best."""

    text: str
    tint: int
    best: bool


@dataclass(frozen=True)
class Bar:
    """One stage on the common time axis, in percent of the total."""

    stage: StageFigure
    start: float
    width: float
    share: float


def render(report: Report) -> str:
    """The page as text, to be written as UTF-8."""
    found = claims(report)
    return _template().render(
        report=report,
        claims=found,
        outcome=outcome(report, found),
        recovered=recovered(found),
        tiles=tiles(report, found),
        slices=report.slices(),
        accuracy=accuracy_cells(report),
        key=[(mark, _swatch(mark)) for mark, _ in marks(report)],
        swatches={name: _swatch(teacher_mark(report, name)) for name in report.teacher_names()},
        hues={name: teacher_mark(report, name).css.split()[1] for name in report.teacher_names()},
        bars=bars(report),
        plots=_plots(report, found),
        created=report.created.replace("T", " ").split(".")[0].removesuffix("+00:00"),
        condition=common_condition(report.latency),
        peak_lr=_peak_lr(report),
        lineage=[(name, _plain(value)) for name, value in report.lineage.items()],
        config=report.config_yaml.strip("\n"),
    )


def accuracy_cells(report: Report) -> list[tuple[AccuracyRow, list[Cell]]]:
    """The accuracy table: a cell for each domain and the mean, tinted and marked within its column."""
    columns = [[row.by_slice.get(name) for row in report.accuracy] for name in report.slices()]
    columns.append([row.mean for row in report.accuracy])
    cells = [_column(column) for column in columns]
    return [(row, [column[index] for column in cells]) for index, row in enumerate(report.accuracy)]


def _column(values: list[float | None]) -> list[Cell]:
    known = [round(value, 4) for value in values if value is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    result = []
    for value in values:
        share = 0.0 if value is None or high <= low else (round(value, 4) - low) / (high - low)
        best = value is not None and round(value, 4) == high
        result.append(Cell(numbers.percent(value), min(int(share * _TINTS), _TINTS - 1), best))
    return result


def bars(report: Report) -> list[Bar]:
    """Stages one after another; time outside any stage becomes a last bar when it is above one percent."""
    inside = sum(stage.seconds for stage in report.stages)
    stages = list(report.stages)
    if stages and report.seconds - inside > 0.01 * report.seconds:
        stages.append(StageFigure(name="between stages", seconds=report.seconds - inside))
    total = max(report.seconds, inside) or 1.0
    result, start = [], 0.0
    for stage in stages:
        share = 100 * stage.seconds / total
        result.append(Bar(stage, round(start, 2), round(share, 2), share))
        start += share
    return result


def _plots(report: Report, found: Claims) -> dict[str, Markup]:
    student = next((curve for curve in report.curves if curve.kind == "student" and curve.points), None)
    makers: dict[str, Callable[[float, str], Markup | None]] = {
        "accuracy": lambda width, key: accuracy_plot(report, width, key),
        "teachers": lambda width, key: teachers_plot(report, width, key),
        "student": lambda width, key: student_plot(student, width, key) if student else None,
        "size": lambda width, key: size_plot(report, min(width, 520.0), key),
    }
    drawn = {}
    for name, make in makers.items():
        wide, narrow = make(WIDE, f"{name}-wide"), make(NARROW, f"{name}-narrow")
        if wide is not None and narrow is not None:
            drawn[name] = Markup('<div class="wide">{}</div><div class="narrow">{}</div>').format(
                wide, narrow
            )
    return drawn


def _swatch(mark: Mark) -> Markup:
    canvas = Canvas(16, 16, key="", title="", description="")
    canvas.marker(8, 8, mark.shape, mark.css, size=6.5 if "ring" in mark.css else 5.0)
    return canvas.icon()


def _peak_lr(report: Report) -> float | None:
    rates = [
        p.lr for curve in report.curves if curve.kind == "student" for p in curve.points if p.lr is not None
    ]
    return max(rates, default=None)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


@cache
def _template() -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # the CLI starts without it

    environment = Environment(
        loader=PackageLoader("tutelage.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("percent", "points", "fixed", "significant", "count", "megabytes", "millions", "duration"):
        environment.filters[name] = getattr(numbers, name)
    style = resources.files("tutelage.report") / "templates" / "report.css"
    environment.globals["css"] = Markup(style.read_text(encoding="utf-8"))  # noqa: S704  a file of this package
    return environment.get_template("report.html.j2")
