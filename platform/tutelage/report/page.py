"""What every page is made with: its template, its style, and each plot in two widths."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from markupsafe import Markup

from tutelage.report import numbers

if TYPE_CHECKING:
    from jinja2 import Template

WIDE, NARROW = 780.0, 350.0
FILTERS = (
    "percent",
    "points",
    "fixed",
    "significant",
    "count",
    "megabytes",
    "millions",
    "duration",
    "capital",
)
"""Functions of `numbers` that templates write figures with."""


@cache
def page_template(name: str) -> Template:
    """The template of a page; it escapes every text, and a name that it does not know is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined  # the CLI starts without it

    environment = Environment(
        loader=PackageLoader("tutelage.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for one in FILTERS:
        environment.filters[one] = getattr(numbers, one)
    style = resources.files("tutelage.report") / "templates" / "report.css"
    environment.globals["css"] = Markup(style.read_text(encoding="utf-8"))  # noqa: S704  a file of this package
    return environment.get_template(name)


def in_two_widths(makers: Mapping[str, Callable[[float, str], Markup | None]]) -> dict[str, Markup | None]:
    """Each plot for wide and for narrow windows, of which the style shows one; None where there is none."""
    drawn: dict[str, Markup | None] = {}
    both = Markup('<div class="wide plot-{0}">{1}</div><div class="narrow plot-{0}">{2}</div>')
    for name, make in makers.items():
        wide, narrow = make(WIDE, f"{name}-wide"), make(NARROW, f"{name}-narrow")
        drawn[name] = None if wide is None else both.format(name, wide, narrow)
    return drawn
