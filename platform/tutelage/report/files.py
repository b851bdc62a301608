"""A page and its figures in one folder: the HTML to read, the JSON with the same figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from tutelage.errors import StoreError
from tutelage.files import atomic_write

Model = TypeVar("Model", bound=BaseModel)


def to_json(figures: BaseModel) -> str:
    """The figures as indented JSON with a line end, exactly what `--json` prints."""
    return figures.model_dump_json(indent=2) + "\n"


def write_files(kind: str, folder: Path, files: Mapping[str, str], *, fix: str) -> None:
    """Write texts by name, in order, each appearing only when whole.

    Raises StoreError, which calls the folder by its kind, when it cannot be written.
    """
    try:
        for name, text in files.items():
            with atomic_write(folder / name) as file:
                file.write(text)
    except OSError as error:
        raise StoreError(
            f"{kind} folder {folder}: {error.strerror or error}, a folder that can be written is needed",
            fix=f"free space or change the rights of the folder, then {fix}",
        ) from error


def read_figures(kind: str, path: Path, model: type[Model], *, of: str, fix: str) -> Model:
    """The figures of a JSON file. Raises StoreError when it is missing, or holds other figures.

    Args:
        kind: what the message calls the file.
        path: the file.
        model: what it holds.
        of: where such a file comes from.
        fix: what to do when it is not there.
    """
    try:
        return model.model_validate_json(path.read_bytes())
    except OSError as error:
        raise StoreError(
            f"{kind} file {path}: {error.strerror or error}, a {path.name} of {of} is needed", fix=fix
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise StoreError(
            f"{kind} file {path}: {where}: {first['msg']}, the figures of a {kind} are needed",
            fix="write the report again with the command that made it",
        ) from error
