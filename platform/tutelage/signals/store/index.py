"""Where the row of an example lies: 24 bytes an example, in sorted arrays.

New keys form a run of their own; runs of similar size are merged. So there are few runs, and an example is
moved a logarithmic number of times.

Shapes: N keys asked, M keys held by a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.bytes_]
"""S16: numpy orders and compares all 16 bytes, zeros included."""


class _Run(NamedTuple):
    keys_M: Keys
    files_M: NDArray[Any]
    """int32"""
    rows_M: NDArray[Any]
    """int32"""


class Index:
    """Key -> (file, row); of a key that is added twice the first place counts."""

    def __init__(self) -> None:
        self._runs: list[_Run] = []

    def __len__(self) -> int:
        return sum(len(run.keys_M) for run in self._runs)

    @property
    def runs(self) -> int:
        """How many sorted runs a look-up goes through."""
        return len(self._runs)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for run in self._runs for array in run)

    def add(self, keys: Keys, file: int, rows: Any = None, *, leave_out: Keys | None = None) -> int:
        """Add rows of a file (0, 1, ... unless given); gives how many were not known.

        Keys of `leave_out` are not added.
        """
        keys_M, order_M = np.unique(keys, return_index=True)
        rows_M = order_M if rows is None else np.asarray(rows)[order_M]
        new_M = self.find(keys_M)[0] < 0
        if leave_out is not None and len(leave_out):
            new_M &= ~np.isin(keys_M, leave_out)
        if not new_M.any():
            return 0
        keys_M, rows_M = keys_M[new_M], rows_M[new_M].astype(np.int32)
        self._runs.append(_Run(keys_M, np.full(len(keys_M), file, np.int32), rows_M))
        while len(self._runs) > 1 and len(self._runs[-2].keys_M) <= 2 * len(self._runs[-1].keys_M):
            last = self._runs.pop()
            self._runs[-1] = _merge(self._runs[-1], last)
        return len(keys_M)

    def find(self, keys_N: Keys) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """File and row of each key; both -1 where it is not held."""
        files_N = np.full(len(keys_N), -1, np.int32)
        rows_N = np.full(len(keys_N), -1, np.int32)
        for run in self._runs:
            at_N = np.minimum(np.searchsorted(run.keys_M, keys_N), len(run.keys_M) - 1)
            held_N = run.keys_M[at_N] == keys_N
            files_N = np.where(held_N, run.files_M[at_N], files_N)
            rows_N = np.where(held_N, run.rows_M[at_N], rows_N)
        return files_N, rows_N

    def drop(self, file: int, row: int | None = None) -> None:
        """Forget one row of a file, or all of them."""
        kept = []
        for run in self._runs:
            gone_M = run.files_M == file
            if row is not None:
                gone_M &= run.rows_M == row
            kept.append(_Run(*(array[~gone_M] for array in run)) if gone_M.any() else run)
        self._runs = [run for run in kept if len(run.keys_M)]


def as_keys(digests: Sequence[bytes]) -> Keys:
    """Digests of 16 bytes each as an array."""
    return np.frombuffer(b"".join(digests), "S16")


def _merge(one: _Run, other: _Run) -> _Run:
    keys: Any = np.concatenate([one.keys_M, other.keys_M])
    order = np.argsort(keys, kind="stable")
    files = np.concatenate([one.files_M, other.files_M])
    rows = np.concatenate([one.rows_M, other.rows_M])
    return _Run(keys[order], files[order], rows[order])
