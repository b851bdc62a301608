"""How much the signals of all teachers may take on this machine, and which files go first."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tutelage.signals.store.segment import LEFTOVER, NAME

WRITTEN: set[str] = set()
"""Files that this process wrote, of any store; its own eviction leaves them alone."""


@dataclass(frozen=True)
class StoredFile:
    """One file below `<root>/<teacher>/<spec>/`."""

    path: Path
    nbytes: int
    used: float
    """Last use, in seconds since 1970: the file's modification time, which readers renew."""

    @property
    def folder(self) -> Path:
        """The folder of its teacher and spec."""
        return self.path.parent


def stored_files(root: Path, *, leftovers: bool = False) -> list[StoredFile]:
    """All files of signals below a root, or instead what killed writers left there; by path."""
    pattern = LEFTOVER if leftovers else NAME
    found = []
    for folder in _folders(_folders([root])):
        for entry in _entries(folder):
            if pattern.fullmatch(entry.name):
                with suppress(FileNotFoundError):
                    stat = entry.stat(follow_symlinks=False)
                    found.append(StoredFile(Path(entry.path), stat.st_size, stat.st_mtime))
    return sorted(found, key=lambda file: file.path)


def surplus(files: Iterable[StoredFile], max_bytes: float, keep: Container[str] = ()) -> list[StoredFile]:
    """The least recently used files that must go so that the rest takes at most `max_bytes`."""
    files = sorted(files, key=lambda file: (file.used, file.path))
    over = sum(file.nbytes for file in files) - max_bytes
    gone = []
    for file in files:
        if over <= 0:
            break
        if os.path.abspath(file.path) not in keep:
            gone.append(file)
            over -= file.nbytes
    return gone


def evict(root: Path, max_bytes: float) -> list[StoredFile]:
    """Remove what is too much; who has a file open goes on reading it."""
    gone = surplus(stored_files(root), max_bytes, WRITTEN)
    for file in gone:
        file.path.unlink(missing_ok=True)
    return gone


def _folders(parents: Iterable[Path | str]) -> Iterator[str]:
    for parent in parents:
        yield from (entry.path for entry in _entries(parent) if entry.is_dir(follow_symlinks=False))


def _entries(folder: Path | str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
