"""Folders that appear under their name only when they are whole."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tutelage.files import digest_text
from tutelage.holder import boot

SILENT_S = 24 * 3600.0
"""What another machine builds is given up when it was not written to for so long."""
_LOCK = ".lock"


@contextmanager
def whole_folder(
    target: Path, *, replace: bool = False, check: Callable[[], None] | None = None
) -> Iterator[Path]:
    """Build a folder aside and rename it to `target` at the end of the body.

    An exception or a kill leaves nothing at `target`. When another process finished the same folder
    first, that one stays and this one is dropped; with `replace` this one takes its place.

    Args:
        check: called right before the folder appears; what it raises drops it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target)
    with _scratch(target) as scratch:
        yield scratch
        _sync(scratch)
        if check is not None:
            check()
        if replace:
            _move_aside(target)
        try:
            scratch.rename(target)
        except OSError:
            if not target.is_dir():
                raise


@contextmanager
def _scratch(target: Path) -> Iterator[Path]:
    """A folder beside `target` whose lock the kernel gives back however this process ends."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=_prefix(target), suffix=_LOCK)
    lock = Path(name)
    scratch = lock.with_suffix("")
    try:
        with suppress(OSError):  # a file system without locks: only age says that nobody builds there
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        scratch.mkdir(mode=0o700)  # after its lock: who sweeps never sees it free
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        lock.unlink(missing_ok=True)
        os.close(handle)


def _prefix(target: Path) -> str:
    return f".{target.name}.{digest_text(boot())[:8]}."


def _lock_of(scratch: Path) -> Path:
    return scratch.with_name(scratch.name + _LOCK)


def _move_aside(target: Path) -> None:
    if not target.exists():
        return
    old = Path(tempfile.mkdtemp(dir=target.parent, prefix=_prefix(target)))
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
    """Remove what nobody builds any more: left by a kill on this machine, or by a machine that is gone."""
    ours = re.compile(rf"(\.{re.escape(target.name)}\.[0-9a-f]{{8}}\.\w{{8}})({re.escape(_LOCK)})?")
    found = [ours.fullmatch(path.name) for path in target.parent.iterdir()]
    for scratch in {target.with_name(match[1]) for match in found if match}:
        here = scratch.name.startswith(_prefix(target))
        free = _is_free(_lock_of(scratch)) if here else None
        if _silent(scratch) if free is None else free:
            shutil.rmtree(scratch, ignore_errors=True)
            _lock_of(scratch).unlink(missing_ok=True)


def _is_free(lock: Path) -> bool | None:
    """Whether nobody holds the lock; None where there is none, or a file system that keeps none."""
    try:
        with lock.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except OSError as problem:
        return None if problem.errno in (errno.ENOENT, errno.ENOLCK, errno.EOPNOTSUPP) else False


def _silent(scratch: Path) -> bool:
    """Whether nothing of it was written for long, on the clock of the file system alone.

    What disappears meanwhile is in somebody's hands.
    """
    handle, name = tempfile.mkstemp(dir=scratch.parent, prefix=".clock.")
    os.close(handle)
    now = Path(name).stat().st_mtime
    os.unlink(name)
    found = [path for path in (scratch, _lock_of(scratch)) if path.exists()]
    try:
        inside = scratch.rglob("*") if scratch in found else ()
        newest = max((path.lstat().st_mtime for path in (*found, *inside)), default=now)
    except FileNotFoundError:
        return False
    return now - newest > SILENT_S
