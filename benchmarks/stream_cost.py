"""What one batch of one teacher costs the student's process, by payload: the stream's own microseconds.

    python -m benchmarks.stream_cost [--rounds 30]

The teacher is an actor that answers at once with a ready packet. Each part is timed alone: `ask` builds and
submits the request, `take` fetches and checks a reply that has arrived, `put` keeps it in the signal store,
`decode` makes the tensors that the loss terms see; `get` is what a batch costs that the store has already.
Waiting for the teacher is in none of them.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from blake3 import blake3

from actors.channel import TeacherChannel
from actors.members import FixedMembers
from actors.replica import RayReplica
from actors.session import session
from benchmarks.scripted import PacedTeacher
from tutelage.cli.quiet import quiet_libraries
from tutelage.cli.surroundings import machine
from tutelage.config.runtime import RayConfig, StreamConfig
from tutelage.objectives import Dense
from tutelage.signals.exchange import Request, batch_digest
from tutelage.signals.packet import Packet
from tutelage.signals.payloads import signal_of
from tutelage.signals.spec import PayloadSpec
from tutelage.signals.store import ArrowStore

CASES: list[tuple[str, PayloadSpec, int, int]] = [
    ("32 texts, 2 classes, dense fp32", PayloadSpec("dense", 2), 32, 1),
    ("32 x 48 words, 9 tags, dense fp32", PayloadSpec("dense", 9), 32, 48),
    ("8 x 512 tokens, 12 draws", PayloadSpec("sampled", 32_000, entries=12), 8, 512),
    ("8 x 512 tokens, top-64 fp16", PayloadSpec("topk", 32_000, "fp16", 64), 8, 512),
    ("8 x 512 tokens, hidden 2,048 bf16", PayloadSpec("hidden", 2048, "bf16"), 8, 512),
    ("1 x 512 tokens, dense bf16 32,000", PayloadSpec("dense", 32_000, "bf16"), 1, 512),
]
"""Name, payload, examples, positions an example."""
WARM = 3


def question(spec: PayloadSpec, examples: int, positions: int, number: int) -> Request:
    """A request of its own."""
    digests = [blake3(f"{number} {n}".encode()).digest(16) for n in range(examples)]
    ids = [np.arange(positions + 1, dtype=np.int32) for _ in range(examples)]
    lengths_N = np.full(examples, positions, np.int32)
    return Request(batch_digest(digests), digests, lengths_N, spec, ids=ids)


class Timer:
    """Microseconds of named parts."""

    def __init__(self) -> None:
        self._times: dict[str, list[float]] = {}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Time the body."""
        begin = time.perf_counter()
        yield
        self._times.setdefault(part, []).append(1e6 * (time.perf_counter() - begin))

    def medians(self, skip: int) -> dict[str, float]:
        """The median of each part, without its first rounds."""
        return {part: median(values[skip:]) for part, values in self._times.items()}


def cost(handle: Any, spec: PayloadSpec, examples: int, positions: int, rounds: int) -> dict[str, float]:
    """Median microseconds of each part, and the bytes of one reply."""
    channel = TeacherChannel("paced", FixedMembers([RayReplica("paced-0", handle)]), spec, StreamConfig())
    examples_P = torch.arange(examples).repeat_interleave(positions)
    student_PV = torch.zeros(1, 1).expand(len(examples_P), spec.width)
    # The product with a teacher's head is the student's work, so a hidden state is decoded as it came.
    plain = PayloadSpec("dense", spec.width, spec.dtype) if spec.kind == "hidden" else spec
    timer, nbytes = Timer(), 0.0
    with tempfile.TemporaryDirectory() as folder:
        store = ArrowStore(Path(folder), flush_bytes=1e12)
        for number in range(rounds + WARM):
            request = question(spec, examples, positions, number)
            with timer("ask"):
                asked = channel.ask(request)
            time.sleep(0.02 if examples * positions < 2000 else 0.3)
            with timer("take"):
                packet = channel.take(asked)
            assert packet is not None
            nbytes = float(packet.nbytes)
            with timer("put"):
                store.put(request.examples, packet)
            with timer("get"):
                kept = store.get(request.examples)
            assert kept is not None
            if spec.kind == "hidden":
                kept = Packet(kept.lengths_N, {"logits": kept.columns["hidden"]})
            with timer("decode"):
                signal_of(plain, kept, student_PV, examples_P, lambda values_RV, _: Dense(values_RV))
            if number % 8 == 7:
                store = ArrowStore(Path(folder), flush_bytes=1e12)  # forget what is held in memory
    return {**timer.medians(WARM), "bytes": nbytes}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    quiet_libraries()
    torch.set_num_threads(1)
    where = machine()
    load = os.getloadavg()[0]
    print(f"{where.cpu}, {where.cores} cores, {where.memory_gb} GiB, load {load:.1f}; median of {rounds}")
    parts = ["ask", "take", "put", "get", "decode"]
    heads = "".join(f"{part + ' us':>11s}" for part in [*parts, "asked", "stored"])
    print(f"{'one batch of one teacher':36s}{'bytes':>12s}{heads}")
    with tempfile.TemporaryDirectory() as folder, session(RayConfig(), Path(folder)):
        import ray

        handle = ray.remote(PacedTeacher).options(num_cpus=0).remote("paced", 0.0)
        for name, spec, examples, positions in CASES:
            found = cost(handle, spec, examples, positions, rounds)
            figures = "".join(f"{found[part]:11,.0f}" for part in parts)
            asked = sum(found[part] for part in ("ask", "take", "put", "decode"))
            stored = found["get"] + found["decode"]
            print(f"{name:36s}{found['bytes']:12,.0f}{figures}{asked:11,.0f}{stored:11,.0f}", flush=True)


if __name__ == "__main__":
    main()
