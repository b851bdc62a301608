"""A buffer as a folder: one parquet file a slice, readable as a job's data source, and `buffer.json`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from tutelage.continual.replay.buffer import Buffer
from tutelage.continual.replay.item import DIGEST_BYTES, Item
from tutelage.data.folders import whole_folder
from tutelage.errors import DataError, StoreError, TutelageError
from tutelage.files import digest_file

FORMAT = 1
STATE = "buffer.json"

_OWN = {
    "id": pa.string(),
    "key": pa.uint64(),
    "digest": pa.binary(DIGEST_BYTES),
    "loss": pa.float64(),
    "logits": pa.list_(pa.float32()),
    "logits_by": pa.string(),
}
"""Fields of an item that stand in columns of the name with a leading '_'."""


def save(buffer: Buffer, folder: Path) -> None:
    """Write the buffer in place of what the folder held. Equal buffers give equal bytes.

    The folder appears whole; an exception before leaves the old one.

    Raises:
        DataError: a column that holds values of different types.
        StoreError: the folder cannot be written.
    """
    try:
        with whole_folder(folder, replace=True) as scratch:
            files = {}
            for name, items in groupby(buffer, lambda item: item.slice):
                path = scratch / f"{name}.parquet"
                _write(path, name, list(items))
                files[path.name] = digest_file(path)
            about = {
                "format": FORMAT,
                **buffer.state(),
                "counts": [[*group, count] for group, count in buffer.counts().items()],
                "files": files,
                "digest": buffer.digest(),
            }
            text = json.dumps(about, indent=1, ensure_ascii=False)
            (scratch / STATE).write_text(text + "\n", encoding="utf-8")
    except OSError as problem:
        raise StoreError(
            f"the replay buffer {folder} cannot be written: {problem}", fix="make room, or check its rights"
        ) from problem


def load(folder: Path) -> Buffer:
    """Read what `save` wrote.

    Raises:
        StoreError: no buffer there, a file that is missing or was changed, or a format of another release.
    """
    path = folder / STATE
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        if about["format"] != FORMAT:
            raise ValueError(f"format {about['format']}, known is {FORMAT}")
        items: list[Item] = []
        for name, digest in about["files"].items():
            path = folder / name
            if digest_file(path) != digest:
                raise ValueError("its bytes are not those that were saved")
            items += _read(path)
        path = folder / STATE
        buffer = Buffer.restore(about, items)
        if buffer.digest() != about["digest"]:
            raise ValueError("its digest is not that of the content")
    except FileNotFoundError as problem:
        raise _damaged(path, "no such file") from problem
    except (OSError, ValueError, KeyError, TypeError, AttributeError, TutelageError) as problem:
        raise _damaged(path, f"{type(problem).__name__}: {problem}") from problem
    return buffer


def _damaged(path: Path, problem: str) -> StoreError:
    return StoreError(
        f"replay buffer: {path}: {problem}",
        fix=f"bring {path.parent} back from a copy, or remove it and fill the buffer anew",
    )


def _write(path: Path, slice_: str, items: Sequence[Item]) -> None:
    arrays: dict[str, Any] = {}
    for name in sorted({name for item in items for name in item.columns}):
        try:
            arrays[name] = pa.array([item.columns.get(name) for item in items])
        except (pa.ArrowInvalid, pa.ArrowTypeError) as problem:
            raise DataError(
                f"slice '{slice_}', column '{name}': its values are of different types: {problem}",
                fix="give all examples of a slice the same types",
            ) from problem
    # A label column without a single label would be refused by a job that reads the file.
    if any(item.label is not None for item in items):
        arrays["label"] = pa.array([item.label for item in items], pa.string())
    for name, kind in _OWN.items():
        arrays[f"_{name}"] = pa.array([getattr(item, name) for item in items], kind)
    # Without statistics, which repeat values outside of the pages.
    parquet.write_table(
        pa.table(arrays), path, compression="zstd", use_dictionary=False, write_statistics=False
    )


def _read(path: Path) -> Iterator[Item]:
    with parquet.ParquetFile(path) as file:
        table = file.read().to_pydict()
    own = {name: table.pop(f"_{name}") for name in _OWN}
    count = len(own["id"])
    own["label"] = table.pop("label", [None] * count)
    for row in range(count):
        columns = {name: values[row] for name, values in table.items()}
        fields = {name: values[row] for name, values in own.items()}
        yield Item(slice=path.stem, columns=columns, **fields)
