"""What the columns of a packet are, without their values: names, types, and the shape of one row.

Every row of a file is checked together with the layout, so a damaged layout is never used to read values.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from tutelage.errors import StoreError
from tutelage.signals.packet import Column, Packet

DIGEST_BYTES = 16

_NUMBERS = "biuf"
"""numpy's kinds whose short form says everything: bool, integers, floats."""


@dataclass(frozen=True)
class Field:
    """One column: values of `dtype`, and `shape` behind the first axis."""

    name: str
    dtype: str
    """numpy's short form, byte order included: `<f4`."""
    shape: tuple[int, ...]

    @cached_property
    def kind(self) -> np.dtype[Any]:
        """The numpy type."""
        return np.dtype(self.dtype)

    @cached_property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.kind.itemsize * math.prod(self.shape)

    def view(self, data: memoryview) -> NDArray[Any]:
        """Bytes as values [R, ...], without a copy. Raises ValueError when they are no whole rows."""
        return np.frombuffer(data, self.kind).reshape(-1, *self.shape)


@dataclass(frozen=True)
class Layout:
    """The columns of a packet, in order."""

    fields: tuple[Field, ...]

    @classmethod
    def of(cls, packet: Packet) -> Layout:
        """The layout of a packet.

        Raises:
            StoreError: a column whose bytes cannot be read back: no numbers, or rows without bytes.
        """
        fields = []
        for name, column in packet.columns.items():
            kind = column.values.dtype
            field = Field(name, kind.str, tuple(column.values.shape[1:]))
            if kind.kind not in _NUMBERS or field.row_bytes == 0:
                raise StoreError(
                    f"column '{name}': {kind} with rows of shape {field.shape} cannot be stored",
                    fix="use numpy's own integers or floats (bfloat16 as uint16), at least one value a row",
                )
            fields.append(field)
        return cls(tuple(fields))

    @classmethod
    def from_json(cls, data: Any) -> Layout:
        """Read what `to_json` wrote. Raises ValueError, TypeError or KeyError for anything else."""
        fields = tuple(
            Field(str(name), str(dtype), tuple(int(n) for n in shape)) for name, dtype, shape in data
        )
        for field in fields:
            if field.kind.kind not in _NUMBERS or field.row_bytes <= 0 or min(field.shape, default=1) < 1:
                raise ValueError(f"column '{field.name}' has no rows that can be read")
        return cls(fields)

    def to_json(self) -> list[Any]:
        """Plain values."""
        return [[field.name, field.dtype, list(field.shape)] for field in self.fields]

    @cached_property
    def seal(self) -> bytes:
        """16 bytes of the layout itself."""
        return blake3(json.dumps(self.to_json()).encode()).digest(16)

    @cached_property
    def _sizes(self) -> struct.Struct:
        return struct.Struct(f"<i{len(self.fields)}Q")

    def checksum(
        self, scope: bytes, digest: bytes, length: int, blobs: Sequence[bytes | memoryview]
    ) -> bytes:
        """8 bytes over all that one row says: whose it is, its layout, its example, its values."""
        sizes = self._sizes.pack(length, *map(len, blobs))
        return blake3(b"".join((scope, self.seal, digest, sizes, *blobs))).digest(8)

    def packet(self, lengths: Sequence[int], rows: Sequence[Sequence[NDArray[Any]]]) -> Packet:
        """The packet of some rows: for each its length, and one array for each column."""
        columns = {}
        for position, field in enumerate(self.fields):
            parts = [row[position] for row in rows]
            empty = np.empty((0, *field.shape), field.kind)
            counts = np.fromiter((len(part) for part in parts), np.int32, len(parts))
            columns[field.name] = Column(np.concatenate(parts) if parts else empty, counts)
        return Packet(np.array(lengths, np.int32), columns)
