"""The proof that something was forgotten: a search for it in all that the files of a buffer hold."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from tutelage.continual.replay.item import DIGEST_BYTES
from tutelage.errors import StoreError

SHORT_BYTES = 8
"""Less than this stands in compressed bytes and long texts by chance: it counts as a whole value only."""


def traces(folder: Path, ids_or_texts: Iterable[str]) -> list[str]:
    """Names of the files below the folder that still hold one of these, sorted; empty is the proof.

    Searched are the raw bytes of every file and every decoded value: each column of a parquet file and
    its metadata, and the keys and values of JSON. An id that is the hex of a digest is looked for as those
    bytes too. What a killed `save` left beside the folder is searched likewise.

    Raises:
        StoreError: no such folder, or a file that cannot be decoded, of which nothing can be said.
    """
    if not folder.is_dir():
        raise StoreError(f"{folder} is no folder", fix="give the folder that the buffer was saved to")
    needles = [needle for text in ids_or_texts for needle in _needles(text)]
    places = [folder, *folder.parent.glob(f".{folder.name}.*")]
    files = sorted(path for place in places for path in place.rglob("*") if path.is_file())
    return [os.path.relpath(path, folder) for path in files if _holds(path, needles)]


def _needles(text: str) -> list[bytes]:
    if not text:
        return []
    needles = [text.encode()]
    if len(text) == 2 * DIGEST_BYTES:
        with suppress(ValueError):  # any other text of that length
            needles.append(bytes.fromhex(text))
    return needles


def _holds(path: Path, needles: list[bytes]) -> bool:
    whole = set(needles)
    parts = [needle for needle in needles if len(needle) >= SHORT_BYTES]
    raw = path.read_bytes()
    if any(part in raw for part in parts):
        return True
    return any(value in whole or any(part in value for part in parts) for value in _decoded(path, raw))


def _decoded(path: Path, raw: bytes) -> Iterator[bytes]:
    try:
        if path.suffix == ".parquet":
            with parquet.ParquetFile(path) as file:
                table = file.read()
            yield from map(str.encode, table.column_names)
            yield from (table.schema.metadata or {}).values()
            for column in table.columns:
                for value in column.to_pylist():
                    yield from _values(value)
        elif path.suffix == ".json":
            yield from _values(json.loads(raw))
    except (OSError, ValueError, pa.ArrowException) as problem:
        raise StoreError(
            f"{path} cannot be decoded, so it may hold anything: {problem}", fix=f"remove {path}"
        ) from problem


def _values(value: Any) -> Iterator[bytes]:
    """All texts and bytes within a value."""
    if isinstance(value, str):
        yield value.encode()
    elif isinstance(value, bytes):
        yield value
    elif isinstance(value, list):
        for one in value:
            yield from _values(one)
    elif isinstance(value, dict):
        for key, one in value.items():
            yield key.encode()
            yield from _values(one)
