"""Many small files of one teacher and spec become one, and the good rows of damaged files are kept.

The new file is whole before the old ones go, so a reader finds each example at any time. The new file names
those that it replaces, so that a remote tier which still has them is not asked for them again.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tutelage.signals.store.budget import StoredFile
from tutelage.signals.store.memory import Row
from tutelage.signals.store.segment import About, DamagedError, Segment, write_segment

MERGED_BYTES = 64_000_000
"""Files are merged up to about this size; files of half of it or more are left alone."""


@dataclass(frozen=True)
class Group:
    """Files of one folder that become one."""

    files: list[StoredFile]

    @property
    def nbytes(self) -> int:
        """Bytes of all of them."""
        return sum(file.nbytes for file in self.files)


def groups(
    files: Sequence[StoredFile], damaged: Collection[StoredFile], limit: int = MERGED_BYTES
) -> list[Group]:
    """Which files of one folder are merged: small ones, and damaged ones for the sake of their good rows."""
    found: list[Group] = []
    current: list[StoredFile] = []
    for file in files:
        if file.nbytes >= limit / 2 and file not in damaged:
            continue
        if current and sum(one.nbytes for one in current) + file.nbytes > limit:
            found.append(Group(current))
            current = []
        current.append(file)
    found.append(Group(current))
    return [group for group in found if len(group.files) > 1 or any(one in damaged for one in group.files)]


def merge(group: Group, name: str) -> list[Path]:
    """Write the good rows of a group as a file `name` beside them; gives the files that it replaces.

    The old files stay; whoever calls removes them. Of an example that stands twice the first row is kept.

    Raises:
        OSError: the file cannot be written.
    """
    opened = [segment for file in group.files if (segment := _open(file.path))]
    segments = [segment for segment in opened if segment.about.layout == opened[0].about.layout]
    rows: dict[bytes, Row] = {}
    for segment in segments:
        for digest, row in segment.rows():
            if row is not None:
                rows.setdefault(digest, row)
    if not rows:
        return []
    first = segments[0].about
    names = tuple(sorted({name for segment in segments for name in segment.about.names}))
    old = {segment.path.name for segment in segments}
    old |= {name for segment in segments for name in segment.about.replaces}
    path = group.files[0].folder / name
    write_segment(
        path, About(first.identity, first.layout, names, tuple(sorted(old))), list(rows), [*rows.values()]
    )
    used = max(file.used for file in group.files)
    with suppress(OSError):
        os.utime(path, (used, used))
    return [segment.path for segment in segments]


def _open(path: Path) -> Segment | None:
    try:
        return Segment(path)
    except (OSError, DamagedError):
        return None
