"""One file of a store: written once, whole, and read by mapping it.

One row an example: digest, length (positions), an 8-byte checksum, and one binary value for each column. The
schema's metadata says whose signals they are and how the binary values are read. Nothing that a file says is
believed before the checksum of the row was found right: it covers teacher, spec, layout, digest, length and
values.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tutelage.files import atomic_write
from tutelage.signals.store.index import Keys
from tutelage.signals.store.layout import DIGEST_BYTES, Layout
from tutelage.signals.store.memory import Row

FORMAT = 1
NAME = re.compile(r"[0-9a-f]{32}\.arrow")
LEFTOVER = re.compile(r"\.[0-9a-f]{32}\.arrow\..+")
"""What a killed writer leaves."""

_META = b"tutelage"
_FIXED = ("digest", "length", "check")
_KINDS = (pa.binary(DIGEST_BYTES), pa.int32(), pa.binary(8))


class DamagedError(Exception):
    """A file, or a row of it, that is not what a store wrote."""


@dataclass(frozen=True)
class Identity:
    """Whose signals a file holds."""

    teacher: str
    """Fingerprint."""
    spec: str
    """PayloadSpec.key."""

    @classmethod
    def of(cls, folder: Path) -> Identity:
        """By the place: `<teacher>/<spec>`."""
        folder = Path(os.path.abspath(folder))
        return cls(folder.parent.name, folder.name)

    @property
    def scope(self) -> bytes:
        """What each checksum covers of it."""
        return f"{FORMAT}\0{self.teacher}\0{self.spec}\0".encode()


@dataclass(frozen=True)
class About:
    """What a file says of itself beside its rows."""

    identity: Identity
    layout: Layout
    names: tuple[str, ...] = ()
    """What jobs called the teacher."""
    replaces: tuple[str, ...] = ()
    """Names of the files whose rows were merged into this one."""

    def to_bytes(self) -> bytes:
        """JSON for the schema's metadata."""
        return json.dumps(
            {
                "format": FORMAT,
                "teacher": self.identity.teacher,
                "spec": self.identity.spec,
                "columns": self.layout.to_json(),
                "names": self.names,
                "replaces": self.replaces,
            }
        ).encode()

    @classmethod
    def from_bytes(cls, text: bytes) -> About:
        """Read what `to_bytes` wrote. Raises ValueError, KeyError or TypeError for anything else."""
        data = json.loads(text)
        if data["format"] != FORMAT:
            raise ValueError(f"format {data['format']}, known is {FORMAT}")
        names, replaces = (tuple(str(one) for one in data[key]) for key in ("names", "replaces"))
        return cls(
            Identity(str(data["teacher"]), str(data["spec"])),
            Layout.from_json(data["columns"]),
            names,
            tuple(name for name in replaces if NAME.fullmatch(name)),
        )


class Segment:
    """A mapped file. It stays readable after the file was removed, and holds no file descriptor.

    Raises:
        FileNotFoundError: the file is gone.
        OSError: the file may be right, but cannot be opened.
        DamagedError: the file is torn, of another teacher, or no file of a store at all.
    """

    def __init__(self, path: Path, identity: Identity | None = None) -> None:
        self.path = path
        with path.open("rb") as file:
            self.nbytes = os.fstat(file.fileno()).st_size
        try:
            self._map(identity or Identity.of(path.parent))
        except FileNotFoundError:
            raise
        except DamagedError:
            raise
        except Exception as error:
            raise DamagedError(f"not a signal file: {type(error).__name__}: {error}") from error

    def _map(self, identity: Identity) -> None:
        with pa.memory_map(str(self.path)) as source:
            reader = pa.ipc.open_file(source)
            if reader.num_record_batches != 1:
                raise DamagedError(f"{reader.num_record_batches} record batches instead of 1")
            batch: Any = reader.get_batch(0)
        schema = batch.schema
        self.about = About.from_bytes((schema.metadata or {})[_META])
        if self.about.identity != identity:
            raise DamagedError(f"signals of {self.about.identity}, not of {identity}")
        fields = self.about.layout.fields
        kinds = [*_KINDS, *[pa.large_binary()] * len(fields)]
        if schema.types != kinds or schema.names[:3] != list(_FIXED):
            raise DamagedError(f"columns {', '.join(map(str, schema))}")
        self._count = int(batch.num_rows)
        views = [_view(array, kind, self._count) for array, kind in zip(batch.columns, kinds, strict=True)]
        self._digests, lengths, self._checks = views[0][0], views[1][0], views[2][0]
        # Memory views, since single numbers of numpy arrays take longer to read.
        self._lengths = lengths[: 4 * self._count].cast("i")
        self._blobs = [(starts[: 8 * self._count + 8].cast("q"), data) for starts, data in views[3:]]
        self._scope = identity.scope

    def __len__(self) -> int:
        return self._count

    def keys(self) -> Keys:
        """The digests of all rows, as an index takes them."""
        return np.frombuffer(self._digests, "S16", self._count)

    def digest(self, row: int) -> bytes:
        """The digest of one row."""
        return bytes(self._digests[row * DIGEST_BYTES : (row + 1) * DIGEST_BYTES])

    def row(self, row: int) -> Row:
        """One row, its values in the mapped file. Raises DamagedError when its checksum is another."""
        # A wrong start or end is cut to the buffer by the slice, and then the checksum differs.
        blobs = [data[starts[row] : starts[row + 1]] for starts, data in self._blobs]
        length, layout, digest = self._lengths[row], self.about.layout, self.digest(row)
        if layout.checksum(self._scope, digest, length, blobs) != self._checks[row * 8 : row * 8 + 8]:
            raise DamagedError(f"row {row} has another checksum")
        return Row(length, [field.view(blob) for field, blob in zip(layout.fields, blobs, strict=True)])

    def rows(self) -> Iterator[tuple[bytes, Row | None]]:
        """Every digest with its row; None for a damaged one."""
        for position in range(self._count):
            try:
                yield self.digest(position), self.row(position)
            except DamagedError:
                yield self.digest(position), None


def write_segment(path: Path, about: About, digests: Sequence[bytes], rows: Sequence[Row]) -> None:
    """Write a file that appears under its name only when it is whole and on the disk."""
    layout, scope = about.layout, about.identity.scope
    bytes_NF = [[values.tobytes() for values in row.values] for row in rows]
    checks = [
        layout.checksum(scope, digest, row.length, blobs)
        for digest, row, blobs in zip(digests, rows, bytes_NF, strict=True)
    ]
    lengths = np.array([row.length for row in rows], "<i4").tobytes()
    fixed = (b"".join(digests), lengths, b"".join(checks))
    arrays = [_array(kind, len(rows), data) for kind, data in zip(_KINDS, fixed, strict=True)]
    for position in range(len(layout.fields)):
        blobs = [blobs[position] for blobs in bytes_NF]
        starts = np.concatenate([[0], np.cumsum([len(blob) for blob in blobs])]).astype("<i8")
        arrays.append(_array(pa.large_binary(), len(rows), starts.tobytes(), b"".join(blobs)))
    names = [*_FIXED, *(f"values:{field.name}" for field in layout.fields)]
    fields = [pa.field(name, array.type) for name, array in zip(names, arrays, strict=True)]
    schema = pa.schema(fields, metadata={_META: about.to_bytes()})
    batch = pa.record_batch(arrays, schema=schema)
    try:
        _write(path, batch)
    except FileNotFoundError:  # somebody cleaned up the empty folder just now
        _write(path, batch)
    sync_folder(path.parent)


def _write(path: Path, batch: Any) -> None:
    with atomic_write(path, "wb") as file:
        sink: Any = file  # pyarrow takes any binary file; its stubs know fewer
        with pa.ipc.new_file(sink, batch.schema) as writer:
            writer.write_batch(batch)


def sync_folder(folder: Path) -> None:
    """Make a rename in the folder survive a power cut, where the file system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _array(kind: Any, count: int, *buffers: bytes) -> Any:
    """Bytes as an Arrow array. `pa.array` would import pandas, if it is installed, into every worker."""
    return pa.Array.from_buffers(kind, count, [None, *map(pa.py_buffer, buffers)])


def _view(array: Any, kind: Any, count: int) -> list[memoryview]:
    """The buffers of an Arrow array behind the one for nulls, after a check of their sizes."""
    _, *buffers = array.buffers()
    large = pa.types.is_large_binary(kind)
    need = 8 * (count + 1) if large else count * kind.bit_width // 8
    views = [memoryview(buffer if buffer is not None else b"").cast("B") for buffer in buffers]
    if len(views[0]) < need or len(views) != 1 + large:
        raise DamagedError("a column is shorter than its rows")
    return views
