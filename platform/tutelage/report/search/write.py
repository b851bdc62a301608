"""The two files of a search in one folder: search.html to read, search.json with the same figures."""

from __future__ import annotations

from pathlib import Path

from tutelage.report.files import read_figures, to_json, write_files
from tutelage.report.search.figures import SearchReport
from tutelage.report.search.html import render

HTML, JSON = "search.html", "search.json"


def write_search_report(figures: SearchReport, folder: Path) -> Path:
    """Write both files, each appearing only when whole, the JSON first; returns the path of the page.

    Raises StoreError when the folder cannot be written.
    """
    files = {JSON: to_json(figures), HTML: render(figures)}
    write_files("search", folder, files, fix="write the report again")
    return folder / HTML


def read_search_report(folder: Path) -> SearchReport:
    """The figures of a folder's search.json. Raises StoreError when it is missing or not a search."""
    fix = "name the folder of a search that has ended"
    return read_figures("search", folder / JSON, SearchReport, of="a search", fix=fix)
