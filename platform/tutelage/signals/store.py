"""Signals that were paid for once are kept: a row of logits for each teacher and example.

The store of one teacher is a folder of Arrow files, each written whole under a temporary name and
then renamed: a killed writer leaves no file that could be read wrong. Writers never share a file,
so any number of student workers may write at once.

Shapes: N examples, C classes.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from tutelage.errors import StoreError
from tutelage.files import atomic_write
from tutelage.signals.exchange import Logits


class SignalStore(Protocol):
    """Signals of one teacher by example digest."""

    def get(self, digests: Sequence[bytes]) -> Logits | None:
        """Logits [N, C] in the order asked, or None when any example is missing."""
        ...

    def put(self, digests: Sequence[bytes], logits_NC: Logits) -> None:
        """Keep one row for each example. A row that is already there stays as it is."""
        ...

    def flush(self) -> None:
        """Make what was put readable for others, and safe from a crash."""

    def refresh(self) -> None:
        """See what other writers have flushed."""


class MemoryStore:
    """A store for one process; also the twin for tests."""

    def __init__(self) -> None:
        self._rows: dict[bytes, Logits] = {}

    def get(self, digests: Sequence[bytes]) -> Logits | None:
        """Logits [N, C], or None when any example is missing."""
        try:
            return np.stack([self._rows[digest] for digest in digests])
        except KeyError:
            return None

    def put(self, digests: Sequence[bytes], logits_NC: Logits) -> None:
        """Keep one row for each example."""
        for digest, row_C in zip(digests, logits_NC, strict=True):
            self._rows.setdefault(digest, row_C)

    def flush(self) -> None:
        """Nothing to do."""

    def refresh(self) -> None:
        """Nothing to do."""

    def __len__(self) -> int:
        return len(self._rows)


class ArrowStore(MemoryStore):
    """A store in a folder that several processes and later runs share.

    The rows of a classifier are a few bytes each, so they are held in memory while in use.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._seen: set[str] = set()
        self._unsaved: dict[bytes, Logits] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self.refresh()

    def put(self, digests: Sequence[bytes], logits_NC: Logits) -> None:
        """Keep one row for each example; others see it after `flush`."""
        for digest, row_C in zip(digests, logits_NC, strict=True):
            if digest not in self._rows:
                self._rows[digest] = self._unsaved[digest] = row_C

    def flush(self) -> None:
        """Write what is new as one file."""
        if not self._unsaved:
            return
        path = self._folder / f"{uuid.uuid4().hex}.arrow"
        logits_NC = np.stack(list(self._unsaved.values())).astype(np.float32, copy=False)
        table = pa.table(
            {
                "digest": pa.array(list(self._unsaved), pa.binary(16)),
                "logits": pa.FixedSizeListArray.from_arrays(pa.array(logits_NC.ravel()), logits_NC.shape[1]),
            }
        )
        with atomic_write(path, "wb") as file:
            sink: Any = file  # pyarrow takes any binary file; its stubs know fewer
            with pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table)
        self._seen.add(path.name)
        self._unsaved.clear()

    def refresh(self) -> None:
        """Read the files that appeared since the last look.

        Raises StoreError for a file that is no Arrow file, which no crash of a writer can leave.
        """
        for path in sorted(self._folder.glob("*.arrow")):
            if path.name not in self._seen:
                super().put(*_read(path))
                self._seen.add(path.name)


def _read(path: Path) -> tuple[list[bytes], Logits]:
    try:
        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_file(source).read_all()
        _check(table.schema)
    except (OSError, pa.ArrowInvalid, ValueError) as error:
        raise StoreError(
            f"{path}: not a signal file ({error})", fix="delete the file; it will be scored again"
        ) from error
    digests: list[Any] = table.column("digest").to_pylist()
    column: Any = table.column("logits").combine_chunks()
    logits_NC: Logits = column.flatten().to_numpy(zero_copy_only=False).reshape(len(digests), -1)
    return digests, logits_NC.copy()


def _check(schema: pa.Schema) -> None:
    """Raise ValueError for a file that holds something else than `flush` writes."""
    found: dict[str, Any] = {field.name: field.type for field in schema}
    digest, logits = found.get("digest"), found.get("logits")
    if digest != pa.binary(16) or logits is None or not pa.types.is_fixed_size_list(logits):
        raise ValueError(f"its columns are {', '.join(f'{name}: {kind}' for name, kind in found.items())}")
