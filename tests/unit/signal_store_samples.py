"""Packets that are easy to recognise, and a clock that stands still, for the tests of the signal store."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tutelage.signals.packet import Column, Packet, dense_packet
from tutelage.signals.store import SignalStore

ROOT = Path(__file__).parents[2]
FOLDER = Path("0123456789abcdef") / "dense-fp32-v2"


def digest(number: int) -> bytes:
    """Sixteen bytes, most of them zero; distinct numbers give distinct digests."""
    return number.to_bytes(16, "big")


def digests(numbers: Sequence[int]) -> list[bytes]:
    return [digest(number) for number in numbers]


def logits(*numbers: int) -> Packet:
    """One position an example: [n + 0.25, -n]."""
    return dense_packet(np.array([[n + 0.25, -n] for n in numbers], np.float32).reshape(-1, 2))


def ragged(*numbers: int) -> Packet:
    """n % 4 positions, which scores count; n % 3 labels; one bias an example. All values derive from n."""
    lengths = np.array([n % 4 for n in numbers], np.int32)
    drawn = np.array([n % 3 for n in numbers], np.int32)
    scores = np.array([[[n, p], [n, -p]] for n in numbers for p in range(n % 4)], np.int8).reshape(-1, 2, 2)
    labels = np.array([n * 10 + p for n in numbers for p in range(n % 3)], np.int32)
    bias = np.array([n / 8 for n in numbers], np.float16)
    one = np.ones(len(numbers), np.int32)
    columns = {"scores": Column(scores, lengths), "labels": Column(labels, drawn), "bias": Column(bias, one)}
    return Packet(lengths, columns)


def same(found: Packet | None, expected: Packet) -> bool:
    """Bit for bit: lengths, names in order, types, shapes, row counts, values."""
    if found is None or found.lengths_N.tolist() != expected.lengths_N.tolist():
        return False
    return list(found.columns) == list(expected.columns) and all(
        mine.values.dtype == other.values.dtype
        and mine.values.shape == other.values.shape
        and mine.values.tobytes() == other.values.tobytes()
        and mine.rows_N.tolist() == other.rows_N.tolist()
        for mine, other in zip(found.columns.values(), expected.columns.values(), strict=True)
    )


def fill(store: SignalStore, *numbers: int) -> None:
    """Put the logits of some numbers and flush."""
    store.put(digests(numbers), logits(*numbers))
    store.flush()


def files(root: Path) -> list[Path]:
    """All finished files below a folder."""
    return sorted(root.rglob("*.arrow"))


def age(path: Path, when: float) -> None:
    """Make a file's last use `when`."""
    os.utime(path, (when, when))


def environment() -> dict[str, str]:
    """For a Python process that imports tutelage."""
    return {"PYTHONPATH": f"{ROOT / 'platform'}:{ROOT}", "PATH": "", "HOME": "/nonexistent"}


SHARED = 900_000
"""What all writers put, counting on from here."""

WRITER = """
import sys
from pathlib import Path
from tests.unit.signal_store_samples import digests, logits
from tutelage.signals.store import ArrowStore
folder, number, steps = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
store = ArrowStore(folder)
for step in range(steps):
    rows = [number * 100_000 + step * 2, number * 100_000 + step * 2 + 1, 900_000 + step]
    store.put(digests(rows), logits(*rows))
    store.flush()
    print(step, flush=True)
    store.refresh()
"""


def writer(folder: Path, number: int, steps: int) -> subprocess.Popen[bytes]:
    """A process that flushes rows of its own and one that all writers share, and says so after each flush."""
    command = [sys.executable, "-c", WRITER, str(folder), str(number), str(steps)]
    return subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE)


class Clock:
    """Seconds since 1970 that pass when told to."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
