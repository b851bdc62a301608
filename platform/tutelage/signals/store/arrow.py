"""The store in a folder that several processes and later runs share.

A folder holds the signals of one teacher and one payload spec, as files that are written whole under a
temporary name and then renamed. Writers never share a file, so any number of them may write at once, and
none waits for another. Values are read from the mapped files; memory holds an index of 24 bytes an example
and the rows that are not flushed yet. Behind the folder there may be a remote tier with the same files.

Shapes: N examples asked.
"""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from tutelage.errors import StoreError
from tutelage.signals.packet import Packet
from tutelage.signals.store.budget import WRITTEN, evict
from tutelage.signals.store.index import Index, as_keys
from tutelage.signals.store.layout import Layout
from tutelage.signals.store.memory import Row, RowTable, check_layout, check_rows
from tutelage.signals.store.remote import RemoteTier
from tutelage.signals.store.segment import NAME, About, DamagedError, Identity, Segment, write_segment

log = logging.getLogger(__name__)

_TOUCH_S = 60
"""A file's last use is renewed at most so often."""


class ArrowStore:
    """Signals of one teacher and one payload spec in `<root>/<teacher fingerprint>/<spec.key>`.

    Args:
        folder: the last two parts of its path say whose signals are in it.
        teacher: what the job calls the teacher; only shown.
        url: the remote tier, an fsspec URL that stands for `<root>`.
        max_bytes: what all files below `<root>` may take; no limit when None.
        flush_bytes: unflushed rows take at most about so much memory before they are written.
        clock: seconds since 1970.

    Raises:
        StoreError: the folder cannot be made, or the URL cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        *,
        teacher: str = "",
        url: str | None = None,
        max_bytes: float | None = None,
        flush_bytes: float = 16e6,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._damaged = 0
        self._folder = Path(os.path.abspath(folder))
        self._identity = Identity.of(folder)
        self._names = (teacher,) if teacher else ()
        self._max_bytes, self._flush_bytes, self._clock = max_bytes, flush_bytes, clock
        self._pending = RowTable()
        self._index = Index()
        self._segments: list[Segment] = []
        self._touched: list[float] = []
        self._seen: set[str] = set()
        self._complained: set[Path] = set()
        self._unusable: set[str] = set()
        self._layout: Layout | None = None
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"{folder} cannot be made: {error}", fix="check $TUTELAGE_HOME and its rights"
            ) from error
        self.remote = RemoteTier(url, self._folder) if url else None
        self.refresh()
        if self.remote:
            self.remote.queue(self._not_uploaded(self.remote))

    def __len__(self) -> int:
        return len(self._index) + len(self._pending)

    @property
    def damaged(self) -> int:
        """Damaged files and rows that were met so far; what they held counts as missing."""
        return self._damaged + (self.remote.damaged if self.remote else 0)

    @property
    def nbytes(self) -> int:
        """Bytes of memory: the index, and rows that wait for a flush."""
        return self._index.nbytes + self._pending.nbytes

    def missing(self, digests: Sequence[bytes]) -> list[int]:
        """Positions in `digests` of the examples that are not held."""
        files_N, _ = self._index.find(as_keys(digests))
        return [n for n in (files_N < 0).nonzero()[0].tolist() if digests[n] not in self._pending]

    def get(self, digests: Sequence[bytes]) -> Packet | None:
        """The signals in the order asked, or None when any is missing or damaged."""
        files_N, rows_N = (places_N.tolist() for places_N in self._index.find(as_keys(digests)))
        rows: list[Row] = []
        for digest, file, row in zip(digests, files_N, rows_N, strict=True):
            found = self._pending[digest] if file < 0 and digest in self._pending else None
            found = found or self._read(digest, file, row)
            if found is None:
                return None
            rows.append(found)
        self._touch(file for file in set(files_N) if file >= 0)
        layout = self._layout or Layout(())
        return layout.packet([row.length for row in rows], [row.values for row in rows])

    def put(self, digests: Sequence[bytes], packet: Packet) -> int:
        """Keep one row for each example, of which so many are new; others see them after `flush`.

        Raises:
            StoreError: a packet that does not fit its digests or those before it, or a full disk.
        """
        check_rows(digests, packet)
        new = self.missing(digests)
        if not new:
            return 0
        self._adopt(check_layout(packet, self._pending.layout))
        whole = len(new) == len(digests)
        self._pending.add([digests[n] for n in new], packet if whole else packet.select(new))
        if self._pending.nbytes > self._flush_bytes:
            self._write()
        return len(new)

    def flush(self) -> None:
        """Write what is new as one file, and upload what waits for it.

        Raises:
            StoreError: the file cannot be written; nothing is lost. A failed upload is no error.
        """
        self._write()
        if self.remote:
            self.remote.push()

    def refresh(self) -> None:
        """Learn of the files that others wrote since the last look, here and in the remote tier."""
        for _ in range(3):  # a file that vanished in between was merged into a new one
            if self._look():
                break
        if self.remote:
            replaced = {name for segment in self._segments for name in segment.about.replaces}
            have = (self._seen - self._unusable) | replaced
            fetched = {path.name for path in self.remote.pull(have, self._room())}
            if fetched:
                self._seen -= fetched  # a whole file may have taken the place of a damaged one
                self._unusable -= fetched
                self._look()
                self._evict()

    def _write(self) -> None:
        if not len(self._pending) or self._layout is None:
            return
        path = self._folder / f"{uuid.uuid4().hex}.arrow"
        about = About(self._identity, self._layout, self._names)
        digests = list(self._pending)
        try:
            write_segment(path, about, digests, [self._pending[digest] for digest in digests])
            segment = Segment(path)
        except (OSError, DamagedError) as error:
            raise StoreError(
                f"{path} cannot be written: {error}",
                fix="make room or check the rights; `tutelage signals gc --max-gb N` removes what is old",
            ) from error
        WRITTEN.add(str(path))
        self._pending.clear()
        self._take(segment)
        if self.remote:
            self.remote.queue([path])
        self._evict()

    def _look(self) -> bool:
        """Open the files that are new. False when one was gone before it was opened."""
        whole = True
        with suppress(FileNotFoundError):
            for path in sorted(self._folder.iterdir()):
                if path.name in self._seen or not NAME.fullmatch(path.name):
                    continue
                try:
                    segment = Segment(path)
                    if self._layout not in (None, segment.about.layout):
                        raise DamagedError(f"columns {segment.about.layout.to_json()}")
                except FileNotFoundError:
                    whole = False
                except (OSError, DamagedError) as error:
                    self._seen.add(path.name)
                    if path not in self._complained:
                        self._unusable.add(path.name)
                    self._report(path, error)
                else:
                    self._take(segment)
        return whole

    def _take(self, segment: Segment) -> None:
        # What this process has put and used stays what it was, whoever else writes the same example.
        mine = as_keys(list(self._pending))
        self._seen.add(segment.path.name)
        self._layout = segment.about.layout
        self._index.add(segment.keys(), len(self._segments), leave_out=mine)
        self._segments.append(segment)
        self._touched.append(0.0)
        self._touch([len(self._segments) - 1])

    def _read(self, digest: bytes, file: int, row: int) -> Row | None:
        """The row of an example; when it is damaged, the same example's row of any other file."""
        while file >= 0:
            try:
                return self._segments[file].row(row)
            except DamagedError as error:
                self._report(self._segments[file].path, error)
                self._index.drop(file, row)
            key = as_keys([digest])
            for other in range(file + 1, len(self._segments)):
                places = (self._segments[other].keys() == key).nonzero()[0]
                if len(places):
                    self._index.add(key, other, places[:1])
                    break
            file, row = (int(place_N[0]) for place_N in self._index.find(key))
        return None

    def _adopt(self, layout: Layout) -> None:
        """What this process puts has the right layout; files that say otherwise are left alone."""
        if layout == self._layout:
            return
        for file, segment in enumerate(self._segments):
            if segment.about.layout != layout:
                self._index.drop(file)
                self._report(segment.path, DamagedError(f"columns {segment.about.layout.to_json()}"))
        self._layout = layout

    def _touch(self, files: Iterable[int]) -> None:
        now = self._clock()
        for file in files:
            if now - self._touched[file] >= _TOUCH_S:
                self._touched[file] = now
                with suppress(OSError):  # removed meanwhile, or a disk that is only read
                    os.utime(self._segments[file].path, (now, now))

    def _evict(self) -> None:
        if self._max_bytes is not None:
            gone = evict(self._folder.parents[1], self._max_bytes)
            if gone:
                log.info("removed %d files of signals that were not used for long", len(gone))

    def _room(self) -> float:
        return (
            float("inf")
            if self._max_bytes is None
            else self._max_bytes - sum(segment.nbytes for segment in self._segments)
        )

    def _not_uploaded(self, remote: RemoteTier) -> list[Path]:
        """Files that an earlier run could not upload, or wrote before there was a URL."""
        there = set(remote.names())
        return [
            segment.path
            for segment in self._segments
            if segment.path.name not in there
            and not (segment.about.replaces and there.issuperset(segment.about.replaces))
        ]

    def _report(self, path: Path, error: Exception) -> None:
        self._damaged += 1
        if path not in self._complained:
            self._complained.add(path)
            log.warning("%s: %s; what it held is scored again", path, error)
