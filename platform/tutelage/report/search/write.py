"""The two files of a search in one folder: search.html to read, search.json with the same figures."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from tutelage.errors import StoreError
from tutelage.files import atomic_write
from tutelage.report.search.figures import SearchReport
from tutelage.report.search.html import render

HTML, JSON = "search.html", "search.json"


def to_json(figures: SearchReport) -> str:
    """The figures as indented JSON with a line end."""
    return figures.model_dump_json(indent=2) + "\n"


def write_search_report(figures: SearchReport, folder: Path) -> Path:
    """Write both files, each appearing only when whole, the JSON first; returns the path of the page.

    Raises StoreError when the folder cannot be written.
    """
    files = {JSON: to_json(figures), HTML: render(figures)}
    try:
        for name, text in files.items():
            with atomic_write(folder / name) as file:
                file.write(text)
    except OSError as error:
        raise StoreError(
            f"search folder {folder}: {error.strerror or error}, a folder that can be written is needed",
            fix="free space or change the rights of the folder, then write the report again",
        ) from error
    return folder / HTML


def read_search_report(folder: Path) -> SearchReport:
    """The figures of a folder's search.json. Raises StoreError when it is missing or not a search."""
    path = folder / JSON
    try:
        return SearchReport.model_validate_json(path.read_bytes())
    except OSError as error:
        raise StoreError(
            f"search file {path}: {error.strerror or error}, a {JSON} of a search is needed",
            fix="name the folder of a search that has ended",
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise StoreError(
            f"search file {path}: {where}: {first['msg']}, the figures of a search are needed",
            fix="write the report again with the command that made it",
        ) from error
