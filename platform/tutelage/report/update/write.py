"""The two files of an update in its run's folder: report.html to read, update.json with the same figures."""

from __future__ import annotations

from pathlib import Path

from tutelage.report.files import read_figures, to_json, write_files
from tutelage.report.update.figures import UpdateReport
from tutelage.report.update.html import render

HTML, JSON = "report.html", "update.json"


def write_update_report(figures: UpdateReport, folder: Path) -> Path:
    """Write both files, each appearing only when whole, the JSON first; returns the path of the page.

    Raises StoreError when the folder cannot be written.
    """
    files = {JSON: to_json(figures), HTML: render(figures)}
    write_files("update", folder, files, fix="render again with `tutelage report`")
    return folder / HTML


def read_update_report(folder: Path) -> UpdateReport:
    """The figures of a folder's update.json. Raises StoreError when it is missing or not an update."""
    fix = "name the run of an update that has ended"
    return read_figures("update", folder / JSON, UpdateReport, of="an update", fix=fix)
