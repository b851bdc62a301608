"""Where state lives, and the few file operations that everything shares."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from blake3 import blake3

from tutelage.errors import StoreError


def home() -> Path:
    """$TUTELAGE_HOME, or `.tutelage` below the current folder; absolute, made when missing.

    Raises StoreError where it cannot be made.
    """
    path = Path(os.environ.get("TUTELAGE_HOME") or ".tutelage").expanduser().absolute()
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as problem:
        raise StoreError(
            f"the home {path} cannot be made: {problem.strerror}",
            fix="set TUTELAGE_HOME to a folder of yours",
        ) from problem
    return path


def is_url(path: str) -> bool:
    """True for an fsspec URL (`s3://...`), false for a path on this machine."""
    return "://" in path


def filesystem(place: str) -> tuple[Any, str]:
    """The fsspec file system of a URL or path, and the path in it; `::` in a path means nothing."""
    if is_url(place):
        from fsspec.core import url_to_fs

        found: tuple[Any, str] = url_to_fs(place)
        return found
    from fsspec.implementations.local import LocalFileSystem

    return LocalFileSystem(), os.path.abspath(place)


def beginning(fs: Any, folder: str, words: str) -> list[str]:
    """Paths right below a folder whose names begin so, sorted; a glob would read signs in its name."""
    try:
        paths = [str(path) for path in fs.ls(folder, detail=False)]
    except FileNotFoundError:
        return []
    return sorted(path for path in paths if path.rstrip("/").rpartition("/")[2].startswith(words))


@contextmanager
def atomic_write(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a file that appears under its name only when it is whole; a kill leaves the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def digest_file(path: Path) -> str:
    """blake3 of a file's bytes, as 64 hex digits."""
    hasher = blake3(max_threads=blake3.AUTO)
    hasher.update_mmap(str(path))
    return hasher.hexdigest()


def digest_folder(folder: Path) -> str:
    """blake3 over the sorted relative names and digests of all files below a folder."""
    hasher = blake3()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        hasher.update(f"{path.relative_to(folder).as_posix()}\0{digest_file(path)}\n".encode())
    return hasher.hexdigest()


def digest_text(*parts: str) -> str:
    """blake3 over parts, each closed by a zero byte, as 64 hex digits."""
    hasher = blake3()
    for part in parts:
        hasher.update(part.encode() + b"\0")
    return hasher.hexdigest()
