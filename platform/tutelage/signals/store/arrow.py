"""The store in a folder that several processes and later runs share.

A folder holds the signals of one teacher and one payload spec, as files that are written whole under a
temporary name and then renamed. Writers never share a file, so any number of them may write at once, and
none waits for another. Values are read from the mapped files; memory holds an index of 24 bytes an example
and the rows that are not flushed yet.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from pathlib import Path

from tutelage.errors import StoreError
from tutelage.signals.packet import Packet
from tutelage.signals.store.index import Index, as_keys
from tutelage.signals.store.layout import Layout
from tutelage.signals.store.memory import Row, RowTable, check_layout, check_rows
from tutelage.signals.store.segment import NAME, About, DamagedError, Identity, Segment, write_segment

log = logging.getLogger(__name__)


class ArrowStore:
    """Signals of one teacher and one payload spec in `<anything>/<teacher fingerprint>/<spec.key>`.

    Args:
        folder: the last two parts of its path say whose signals are in it.
        teacher: what the job calls the teacher; only shown.
        flush_bytes: unflushed rows take at most about so much memory before they are flushed.

    Raises:
        StoreError: the folder cannot be made.
    """

    def __init__(self, folder: Path, *, teacher: str = "", flush_bytes: int = 16 << 20) -> None:
        self.damaged = 0
        """Damaged files and rows that were met so far; each was treated as missing."""
        self._folder = folder
        self._identity = Identity.of(folder)
        self._names = (teacher,) if teacher else ()
        self._flush_bytes = flush_bytes
        self._pending = RowTable()
        self._index = Index()
        self._segments: list[Segment] = []
        self._seen: set[str] = set()
        self._layout: Layout | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{folder} cannot be made: {error}", fix="check TUTELAGE_HOME") from error
        self.refresh()

    def __len__(self) -> int:
        return len(self._index) + len(self._pending)

    def missing(self, digests: Sequence[bytes]) -> list[int]:
        """Positions in `digests` of the examples that are not held."""
        files_N, _ = self._index.find(as_keys(digests))
        return [n for n in (files_N < 0).nonzero()[0].tolist() if digests[n] not in self._pending]

    def get(self, digests: Sequence[bytes]) -> Packet | None:
        """The signals in the order asked, or None when any is missing or damaged."""
        files_N, rows_N = self._index.find(as_keys(digests))
        rows: list[Row] = []
        for digest, file, row in zip(digests, files_N.tolist(), rows_N.tolist(), strict=True):
            found = self._pending[digest] if digest in self._pending else self._read(digest, file, row)
            if found is None:
                return None
            rows.append(found)
        layout = self._layout or Layout(())
        return layout.packet([row.length for row in rows], [row.values for row in rows])

    def put(self, digests: Sequence[bytes], packet: Packet) -> None:
        """Keep one row for each example; others see it after `flush`."""
        check_rows(digests, packet)
        new = self.missing(digests)
        if not new:
            return
        self._adopt(check_layout(packet, self._pending.layout))
        whole = len(new) == len(digests)
        self._pending.add([digests[n] for n in new], packet if whole else packet.select(new))
        if self._pending.nbytes > self._flush_bytes:
            self.flush()

    def flush(self) -> None:
        """Write what is new as one file. Raises StoreError when it cannot be; nothing is lost then."""
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
        self._pending.clear()
        self._take(segment)

    def refresh(self) -> None:
        """Read the names of the files that appeared since the last look, and their digests."""
        pending = as_keys(list(self._pending))
        for path in sorted(self._folder.iterdir()):
            if path.name in self._seen or not NAME.fullmatch(path.name):
                continue
            self._seen.add(path.name)
            try:
                segment = Segment(path)
                if self._layout not in (None, segment.about.layout):
                    raise DamagedError(f"columns {segment.about.layout.to_json()}")
            except (OSError, DamagedError) as error:
                self._report(path, error)
            else:
                self._layout = segment.about.layout
                self._index.add(segment.keys(), len(self._segments), pending)
                self._segments.append(segment)

    def _take(self, segment: Segment) -> None:
        self._seen.add(segment.path.name)
        self._index.add(segment.keys(), len(self._segments))
        self._segments.append(segment)

    def _read(self, digest: bytes, file: int, row: int) -> Row | None:
        if file < 0:
            return None
        segment = self._segments[file]
        try:
            return segment.row(row)
        except DamagedError as error:
            self._report(segment.path, error)
            self._index.drop(file, row)
            return None

    def _adopt(self, layout: Layout) -> None:
        """What this process puts has the right layout; files that say otherwise are left alone."""
        if self._layout not in (None, layout):
            for file, segment in enumerate(self._segments):
                if segment.about.layout != layout:
                    self._index.drop(file)
                    self._report(segment.path, DamagedError(f"columns {segment.about.layout.to_json()}"))
        self._layout = layout

    def _report(self, path: Path, error: Exception) -> None:
        self.damaged += 1
        log.warning("%s: %s; what it held will be scored again", path, error)
