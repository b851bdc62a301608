"""`tutelage report`: render a report again from its figures, and say where it is."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tutelage.errors import ConfigError, StoreError
from tutelage.files import home

if TYPE_CHECKING:
    from tutelage.cli.console import Console
    from tutelage.report.figures import Report
    from tutelage.report.search.figures import SearchReport
    from tutelage.report.update.figures import UpdateReport

Which = Annotated[str | None, typer.Argument(metavar="[RUN|FOLDER]", help="The newest run if not given.")]


def report(
    ctx: typer.Context,
    which: Which = None,
    show: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Render the page of a run again and print its path; with --json print every figure of it."""
    from tutelage.report.search.write import read_search_report, write_search_report
    from tutelage.report.update.write import JSON as UPDATE
    from tutelage.report.update.write import read_update_report, write_update_report
    from tutelage.report.write import JSON, read_report, write_report

    console: Console = ctx.obj
    folder = find_report(which, home() / "runs")
    figures: Report | SearchReport | UpdateReport
    if (folder / JSON).is_file():
        figures = read_report(folder)
        page = write_report(figures, folder)
    elif (folder / UPDATE).is_file():
        figures = read_update_report(folder)
        page = write_update_report(figures, folder)
    else:
        figures = read_search_report(folder)
        page = write_search_report(figures, folder)
    console.result(figures.model_dump(mode="json"), str(page))
    if show:
        webbrowser.open(page.absolute().as_uri())


def find_report(which: str | None, runs: Path) -> Path:
    """The folder of a report, a search or an update: a path, else a run of `runs`, else the newest one.

    Raises ConfigError for a name that is neither, StoreError where no run has a report.
    """
    from tutelage.report.search.write import JSON as SEARCH
    from tutelage.report.update.write import JSON as UPDATE
    from tutelage.report.write import JSON

    kinds = (JSON, SEARCH, UPDATE)
    files = [path for name in kinds for path in runs.glob(f"*/{name}")]
    known = [path.parent for path in sorted(files, key=lambda f: (f.stat().st_mtime_ns, f.parent.name))]
    if which is None:
        if known:
            return known[-1]
        raise StoreError(
            f"runs folder {runs}: no run with a {JSON}",
            fix="run `tutelage quickstart` first, or name a folder",
        )
    for folder in (Path(which), runs / which):
        if any((folder / name).is_file() for name in kinds):
            return folder
    newest = ", ".join(folder.name for folder in reversed(known[-5:])) or "none"
    raise ConfigError(
        f"report {which!r}: no folder with a {JSON} and no run; newest runs with one: {newest}",
        fix="name one of these, or a folder",
    )
