"""The two files of a report in one folder: report.html to read, report.json with the same figures."""

from __future__ import annotations

from pathlib import Path

from tutelage.report.figures import Report
from tutelage.report.files import read_figures, to_json, write_files
from tutelage.report.html import render

HTML, JSON = "report.html", "report.json"


def write_report(report: Report, folder: Path) -> Path:
    """Write both files, each appearing only when whole, the JSON first; returns the path of the page.

    Raises StoreError when the folder cannot be written.
    """
    files = {JSON: to_json(report), HTML: render(report)}
    write_files("report", folder, files, fix="render again with `tutelage report`")
    return folder / HTML


def read_report(folder: Path) -> Report:
    """The report of a folder, from its report.json. Raises StoreError when it is missing or not a report."""
    fix = "name a run of `tutelage runs ls`, or the folder of its report"
    return read_figures("report", folder / JSON, Report, of="a tutelage command", fix=fix)
