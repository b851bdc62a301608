"""One example of a replay buffer, what may stand in it, and how many bytes it counts."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from blake3 import blake3

from tutelage.errors import DataError

DIGEST_BYTES = 16
OVERHEAD_BYTES = 64
"""Digest, key and loss of an item, and its offsets in the columns that every item has."""

_SLICE = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
"""As names in a job file: a slice is the name of a file."""
_INT64 = range(-(2**63), 2**63)
_NUMBER_BYTES = 8
_OFFSET_BYTES = 4


@dataclass(frozen=True, slots=True)
class Item:
    """An example as a training reads it, and what the buffer needs to know of it."""

    digest: bytes
    """16 bytes, of the example's content."""
    slice: str
    """The domain it is of."""
    columns: Mapping[str, Any]
    """The task's own columns: text, bytes, numbers, lists and mappings of them. None is as good as absent."""
    label: str | None = None
    """The class by name."""
    loss: float | None = None
    """In nats, the last one under the model; None means not measured."""
    logits: Sequence[float] | None = None
    """fp32, what a model said of the example when it was taken in."""
    logits_by: str | None = None
    """The version or model that gave the logits."""
    id: str = ""
    """What a request to forget it names; the hex digits of the digest when left out."""
    key: int = 0
    """uint64, random but fixed by seed and id; the buffer sets it."""

    def __post_init__(self) -> None:
        if not self.id:
            object.__setattr__(self, "id", self.digest.hex())


def key_of(seed: int, id: str) -> int:
    """The first 8 bytes of blake3(seed || id), as uint64."""
    hashed = blake3(seed.to_bytes(8, "little", signed=True) + id.encode())
    return int.from_bytes(hashed.digest(8), "little")


def measure(item: Item, key: int) -> tuple[Item, int]:
    """The item with this key and with values as they come back from a file, and its bytes.

    The bytes: 64, those of id, slice, label and `logits_by` in UTF-8, 4 a logit, and the columns. There text
    is its UTF-8 and 4, bytes are their number and 4, a number or bool is 8, a list is its values and 4, a
    mapping is its values.

    Raises:
        DataError: a digest of another length, a slice that is no name, a reserved column, a value that no
            file could hold, a loss that is negative, or a loss or logits that are not finite.
    """
    _check(item)
    texts = f"{item.id}{item.slice}{item.label or ''}{item.logits_by or ''}"
    size, columns = OVERHEAD_BYTES + _utf8(item, "id, label or logits_by", texts), {}
    for name, value in item.columns.items():
        if value is not None:
            columns[name], added = _value(item, name, value)
            size += added
    logits = None if item.logits is None else _fp32(item, item.logits)
    size += 4 * len(logits or ())
    # Positional, since this runs once an item and `replace` is slow.
    kept = Item(item.digest, item.slice, columns, item.label, item.loss, logits, item.logits_by, item.id, key)
    return kept, size


def _fp32(item: Item, logits: Sequence[float]) -> list[float]:
    values = np.asarray(logits, np.float32)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise DataError(
            f"logits of example '{item.id}' are not one list of finite numbers",
            fix="give logits of shape [C], or None",
        )
    made: list[float] = values.tolist()
    return made


def _check(item: Item) -> None:
    if len(item.digest) != DIGEST_BYTES:
        raise DataError(
            f"the digest of example '{item.id}' has {len(item.digest)} bytes", fix="give one of 16 bytes"
        )
    if not _SLICE.fullmatch(item.slice):
        raise DataError(
            f"slice '{item.slice}' of example '{item.id}' is no name",
            fix="use a-z, 0-9, '.', '_' and '-', at most 63, the first a letter or digit",
        )
    if item.loss is not None and not 0 <= item.loss < math.inf:
        raise DataError(
            f"loss {item.loss} of example '{item.id}'", fix="give a finite loss of at least 0, or None"
        )
    for name in item.columns:
        if name == "label" or name.startswith("_"):
            raise DataError(
                f"column '{name}' of example '{item.id}' is reserved",
                fix="give the label as the item's `label`, and columns names without a leading '_'",
            )


def _value(item: Item, name: str, value: Any) -> tuple[Any, int]:
    """A value as it comes back from a file, and its bytes."""
    if isinstance(value, str):
        return value, _utf8(item, f"column '{name}'", value) + _OFFSET_BYTES
    if isinstance(value, bytes):
        return value, len(value) + _OFFSET_BYTES
    if isinstance(value, float) or (isinstance(value, int) and value in _INT64):
        return value, _NUMBER_BYTES
    if isinstance(value, list | tuple):
        pairs = [(None, 0) if one is None else _value(item, name, one) for one in value]
        return [one for one, _ in pairs], _OFFSET_BYTES + sum(size for _, size in pairs)
    if isinstance(value, dict):
        # A file gives every mapping of a column all keys, with None for those it did not have.
        made = {key: _value(item, name, one) for key, one in value.items() if one is not None}
        if made and all(isinstance(key, str) for key in made):
            return {key: one for key, (one, _) in made.items()}, sum(size for _, size in made.values())
    raise DataError(
        f"column '{name}' of example '{item.id}' holds {value!r:.60} of type {type(value).__name__}",
        fix="give text, bytes, 64-bit numbers, or lists and non-empty mappings of them",
    )


def _utf8(item: Item, where: str, text: str) -> int:
    if text.isascii():
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError as problem:
        raise DataError(
            f"{where} of example '{item.id!r}' is not Unicode text: {problem}", fix="repair or drop the row"
        ) from problem
