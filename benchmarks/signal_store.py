"""What the signal store costs: a look-up, a write, opening it, and its memory.

    python -m benchmarks.signal_store

Rows are random bytes in a temporary folder; the page cache is warm, as in a second epoch. The dictionary of
`MemoryStore` stands beside the mapped files.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from tutelage.cli.surroundings import machine
from tutelage.signals.packet import Packet, dense_packet
from tutelage.signals.store import ArrowStore, MemoryStore, SignalStore

BATCH = 32
ROUNDS = 300


def classifier(rng: np.random.Generator, examples: int) -> Packet:
    """Two fp32 logits an example."""
    return dense_packet(rng.normal(size=(examples, 2)).astype(np.float32))


def tokens(rng: np.random.Generator, examples: int) -> Packet:
    """512 positions of 36 bytes an example: 18 kB."""
    values = rng.integers(0, 256, size=(examples * 512, 36), dtype=np.uint8)
    return dense_packet(values, np.full(examples, 512, np.int32))


def cut(packet: Packet, part: range) -> Packet:
    """Some examples of a packet of one column whose examples are of one size."""
    ((name, column),) = packet.columns.items()
    rows = len(column.values) // len(packet)
    values = column.values[part.start * rows : part.stop * rows]
    return dense_packet(values, packet.lengths_N[part.start : part.stop], name)


def seconds(call: Callable[[int], object]) -> tuple[float, float]:
    """Median and 95th percentile of a call, which gets its number."""
    times = []
    for number in range(ROUNDS + 10):
        begin = time.perf_counter()
        call(number)
        times.append(time.perf_counter() - begin)
    ordered = sorted(times[10:])
    return ordered[ROUNDS // 2], ordered[ROUNDS * 95 // 100]


def read(store: SignalStore, digests: list[bytes], rng: np.random.Generator) -> str:
    """Batches of random examples, as a shuffled epoch asks for them."""
    orders = rng.integers(0, len(digests), size=(ROUNDS + 10, BATCH))
    batches = [[digests[n] for n in order] for order in orders]
    get = seconds(lambda number: store.get(batches[number]))
    missing = seconds(lambda number: store.missing(batches[number]))
    return f"get {1e6 * get[0]:5.0f} us (95 %: {1e6 * get[1]:5.0f}), missing {1e6 * missing[0]:4.0f} us"


def measure(name: str, make: Callable[[np.random.Generator, int], Packet], examples: int) -> None:
    """Write, open and read one kind of rows."""
    rng = np.random.default_rng(0)
    digests = [rng.bytes(16) for _ in range(examples)]
    packet = make(rng, examples)
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "teacher" / "spec"
        writer = ArrowStore(folder, flush_bytes=float("inf"))
        parts = [range(start, min(start + BATCH, examples)) for start in range(0, examples, BATCH)]
        batches = [(digests[part.start : part.stop], cut(packet, part)) for part in parts]
        begin = time.perf_counter()
        for batch in batches:
            writer.put(*batch)
        put = (time.perf_counter() - begin) / (examples / BATCH)
        begin = time.perf_counter()
        writer.flush()
        flush = time.perf_counter() - begin
        begin = time.perf_counter()
        store = ArrowStore(folder)
        opened = time.perf_counter() - begin
        size = sum(path.stat().st_size for path in folder.iterdir())
        print(f"{name}, {examples} examples, {size / 1e6:.1f} MB on disk, {size / examples:.0f} B an example")
        print(f"  write:  put {1e6 * put:.0f} us a batch of {BATCH}, flush {flush:.2f} s")
        print(f"  open:   {1e3 * opened:.1f} ms, index {store.nbytes / examples:.0f} B an example")
        print(f"  files:  {read(store, digests, rng)} a batch of {BATCH}")
        memory = MemoryStore()
        memory.put(digests, packet)
        print(f"  memory: {read(memory, digests, rng)}")


def main() -> None:
    """Print one block for each kind of rows."""
    where = machine()
    print(f"{where.cpu}, numpy {np.__version__}, pyarrow {pa.__version__}")
    measure("classifier, 8 B", classifier, 100_000)
    measure("classifier, 8 B", classifier, 1_000_000)
    measure("tokens, 512 x 36 B", tokens, 2_000)


if __name__ == "__main__":
    main()
