"""Logits stored with replayed texts, as the training reads them.

Shapes: N texts, W classes that were known when a text came in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
from numpy.typing import NDArray

from tutelage.errors import StoreError
from tutelage.files import atomic_write

_FIELDS: Any = [("digest", pa.binary(16)), ("logits", pa.list_(pa.float32()))]


def write_logits(path: Path, rows: Iterable[tuple[bytes, Sequence[float]]]) -> int:
    """Write one Arrow file, which appears whole; returns the number of texts."""
    digests, logits = [], []
    for digest, row in rows:
        digests.append(digest)
        logits.append(list(row))
    columns = [pa.array(digests, pa.binary(16)), pa.array(logits, pa.list_(pa.float32()))]
    batch = pa.RecordBatch.from_arrays(columns, schema=pa.schema(_FIELDS))
    with atomic_write(path, "wb") as file:
        sink: Any = file
        with pa.ipc.new_file(sink, batch.schema) as writer:
            writer.write_batch(batch)
    return len(digests)


def read_logits(path: Path) -> dict[bytes, NDArray[np.float32]]:
    """Digest of the text -> its logits [W]. Raises StoreError."""
    try:
        with pa.OSFile(str(path), "rb") as file:
            table = pa.ipc.open_file(file).read_all()
        rows: Any = zip(table["digest"].to_pylist(), table["logits"].to_pylist(), strict=True)
        return {digest: np.array(row, np.float32) for digest, row in rows}
    except (OSError, pa.ArrowException, KeyError) as problem:
        raise StoreError(
            f"{path}: stored logits cannot be read: {problem}", fix="repeat with --fresh"
        ) from problem
