"""Folders that appear under their name only when they are whole."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_folder(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """Build a folder aside and rename it to `target` at the end of the body.

    An exception or a kill leaves nothing at `target`. When another process finished the same folder
    first, that one stays and this one is dropped; with `replace` this one takes its place.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target)
    scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.{_owner()}."))
    try:
        yield scratch
        _sync(scratch)
        if replace:
            _move_aside(target, scratch.parent)
        try:
            scratch.rename(target)
        except OSError:
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _owner() -> str:
    return f"{socket.gethostname().replace('.', '-')}.{os.getpid()}"


def _move_aside(target: Path, parent: Path) -> None:
    if not target.exists():
        return
    old = Path(tempfile.mkdtemp(dir=parent, prefix=f".{target.name}.{_owner()}."))
    try:
        target.rename(old / "old")
    except FileNotFoundError:
        pass  # another process moved it first
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _sweep(target: Path) -> None:
    """Remove what processes of this machine left when they were killed while building `target`."""
    host = socket.gethostname().replace(".", "-")
    for path in target.parent.glob(f".{target.name}.{host}.*"):
        pid = path.name.removeprefix(f".{target.name}.{host}.").split(".")[0]
        if pid.isdigit() and not _alive(int(pid)):
            shutil.rmtree(path, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
