"""What a person does with the signals of this machine: look, verify, clean up.

All of it is safe while trainings read and write: whoever has a file open goes on reading it.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from tutelage.signals.store.budget import StoredFile, stored_files, surplus
from tutelage.signals.store.compact import Group, groups, merge
from tutelage.signals.store.segment import DamagedError, Segment

HOUR_S = 3600.0

Watch = Callable[[int, int], None]
"""Called with files done and files in all."""


@dataclass(frozen=True)
class Usage:
    """The signals of one teacher and spec."""

    teacher: str
    """Fingerprint."""
    names: list[str]
    """What jobs called the teacher."""
    spec: str
    examples: int
    """Rows; an example that two workers wrote at once counts twice until files are merged."""
    nbytes: int
    files: int
    unreadable: int
    """Files that are damaged or cannot be opened."""
    used: float
    """Last use, in seconds since 1970."""


@dataclass(frozen=True)
class Fault:
    """A file that does not hold what it should."""

    file: StoredFile
    problem: str
    damaged: bool
    """False when the file could not be opened, and may be right."""
    good_rows: int = 0
    """Rows of a damaged file that are right."""


@dataclass(frozen=True)
class Removal:
    """One file that goes, and why."""

    file: StoredFile
    reason: str


@dataclass(frozen=True)
class Cleaning:
    """What was done, or would be."""

    removed: list[Removal]
    merged: list[Group]

    @property
    def nbytes(self) -> int:
        """Bytes of the removed files; merging frees next to nothing."""
        return sum(removal.file.nbytes for removal in self.removed)


def usage(root: Path) -> list[Usage]:
    """One entry for each teacher and spec below a root, the last used first."""
    found = []
    for folder, files in by_folder(stored_files(root)):
        segments = [segment for file in files if (segment := _open(file.path))]
        found.append(
            Usage(
                teacher=folder.parent.name,
                names=sorted({name for segment in segments for name in segment.about.names}),
                spec=folder.name,
                examples=sum(map(len, segments)),
                nbytes=sum(file.nbytes for file in files),
                files=len(files),
                unreadable=len(files) - len(segments),
                used=max(file.used for file in files),
            )
        )
    return sorted(found, key=lambda entry: -entry.used)


def verify(files: Sequence[StoredFile], watch: Watch = lambda done, total: None) -> list[Fault]:
    """Read every row of the files and compare its checksum."""
    faults = []
    for done, file in enumerate(files):
        watch(done, len(files))
        try:
            segment = Segment(file.path)
            bad = sum(row is None for _, row in segment.rows())
            if bad:
                text = f"{bad} of {len(segment)} rows are damaged"
                faults.append(Fault(file, text, damaged=True, good_rows=len(segment) - bad))
        except FileNotFoundError:
            continue
        except OSError as error:
            faults.append(Fault(file, f"cannot be opened: {error.strerror}", damaged=False))
        except DamagedError as error:
            faults.append(Fault(file, str(error), damaged=True))
    return faults


def clean(
    root: Path,
    *,
    older_than_s: float | None = None,
    max_bytes: float | None = None,
    plan: bool = False,
    watch: Watch = lambda done, total: None,
    clock: Callable[[], float] = time.time,
) -> Cleaning:
    """Remove what is of no use, merge small files, then go down to a size.

    In this order: leftovers of killed writers that are older than an hour; signals of a teacher and spec
    that nobody used for `older_than_s`; damaged files, whose good rows are kept; small files are merged; the
    least recently used files until all take at most `max_bytes`.

    Args:
        root: the folder of all signals.
        plan: change nothing.

    Raises:
        OSError: a merged file cannot be written, or a file not removed.
    """
    now = clock()
    left = [file for file in stored_files(root, leftovers=True) if now - file.used >= HOUR_S]
    removed = [Removal(file, "left by a killed writer") for file in left]
    files = stored_files(root)
    for _, own in by_folder(files):
        if older_than_s is not None and now - max(file.used for file in own) >= older_than_s:
            removed += [Removal(file, "not used for long") for file in own]
    files = _without(files, removed)
    damaged = {fault.file: fault for fault in verify(files, watch) if fault.damaged}
    removed += [Removal(file, f"damaged: {fault.problem}") for file, fault in damaged.items()]
    useless = {file for file, fault in damaged.items() if not fault.good_rows}
    merged: list[Group] = []
    for _, own in by_folder([file for file in files if file not in useless]):
        merged += groups(own, damaged)
    if plan:
        files = _without(files, removed)
    else:
        replaced = [path for group in merged for path in merge(group, f"{uuid.uuid4().hex}.arrow")]
        _unlink([*replaced, *(removal.file.path for removal in removed)])
        files = stored_files(root)
    if max_bytes is not None:
        over = surplus(files, max_bytes)
        removed += [Removal(file, "least recently used") for file in over]
        if not plan:
            _unlink(file.path for file in over)
    if not plan:
        _remove_empty_folders(root)
    return Cleaning(removed, merged)


def by_folder(files: Sequence[StoredFile]) -> Iterator[tuple[Path, list[StoredFile]]]:
    """Files of one teacher and spec together; `files` are sorted by path."""
    for folder, own in groupby(files, key=lambda file: file.folder):
        yield folder, list(own)


def _without(files: Sequence[StoredFile], removed: Sequence[Removal]) -> list[StoredFile]:
    gone = {removal.file.path for removal in removed}
    return [file for file in files if file.path not in gone]


def _open(path: Path) -> Segment | None:
    try:
        return Segment(path)
    except (OSError, DamagedError):
        return None


def _unlink(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _remove_empty_folders(root: Path) -> None:
    for folder in [*root.glob("*/*/"), *root.glob("*/")]:
        try:
            folder.rmdir()
        except OSError:  # something is in it
            continue
