"""The two files of a report in one folder: report.html to read, report.json with the same figures."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from tutelage.errors import StoreError
from tutelage.files import atomic_write
from tutelage.report.figures import Report
from tutelage.report.html import render

HTML, JSON = "report.html", "report.json"


def to_json(report: Report) -> str:
    """The report as indented JSON with a line end, exactly what `--json` prints."""
    return report.model_dump_json(indent=2) + "\n"


def write_report(report: Report, folder: Path) -> Path:
    """Write both files, each appearing only when whole, the JSON first; returns the path of the page.

    Raises StoreError when the folder cannot be written.
    """
    files = {JSON: to_json(report), HTML: render(report)}
    try:
        for name, text in files.items():
            with atomic_write(folder / name) as file:
                file.write(text)
    except OSError as error:
        raise StoreError(
            f"report folder {folder}: {error.strerror or error}, a folder that can be written is needed",
            fix="free space or change the rights of the folder, then render again with `tutelage report`",
        ) from error
    return folder / HTML


def read_report(folder: Path) -> Report:
    """The report of a folder, from its report.json. Raises StoreError when it is missing or not a report."""
    path = folder / JSON
    try:
        return Report.model_validate_json(path.read_bytes())
    except OSError as error:
        raise StoreError(
            f"report file {path}: {error.strerror or error}, a {JSON} of a tutelage command is needed",
            fix="name a run of `tutelage runs ls`, or the folder of its report",
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise StoreError(
            f"report file {path}: {where}: {first['msg']}, the figures of a report are needed",
            fix="write the report again with the command that made it",
        ) from error
