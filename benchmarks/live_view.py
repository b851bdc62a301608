"""One moment of the live view, drawn into docs/live-view.svg.

The stream, the channels, the counters and the panel are the real ones. The teachers are paced ones in this
process: canned signals of real size, a fixed time an answer. One has a slow replica, one dies half-way.

    python -m benchmarks.live_view docs/live-view.svg
"""

from __future__ import annotations

import io
import re
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from blake3 import blake3
from rich.console import Console
from rich.terminal_theme import TerminalTheme

from actors.channel import TeacherChannel
from actors.live import teacher_table
from actors.members import FixedMembers
from actors.replica import Pending, ReplicaLostError
from actors.stream import SignalStream
from benchmarks.scripted import PacedTeacher
from tutelage.cli.panel import UNICODE, block
from tutelage.cli.stages import StageState
from tutelage.config.runtime import StreamConfig
from tutelage.data.batch import Batch
from tutelage.signals.exchange import Request, batch_digest
from tutelage.signals.spec import PayloadSpec
from tutelage.signals.store import MemoryStore, SignalStore

STEPS, EXAMPLES, POSITIONS, STEP_S = 400, 8, 32, 0.02
SEEN = 260
"""The step at which the picture is taken."""
WIDTHS = (112, 60)
VOCABULARY = 32_000
TEACHERS: dict[str, tuple[PayloadSpec, list[float], int | None]] = {
    "large": (PayloadSpec("topk", VOCABULARY, "fp16", 64), [0.055, 0.055, 0.055], None),
    "code": (PayloadSpec("hidden", 512, "bf16"), [0.03, 0.03], None),
    "medicine": (PayloadSpec("sampled", VOCABULARY, entries=12), [0.015, 0.015, 0.4], None),
    "law": (PayloadSpec("topk", VOCABULARY, "fp16", 64), [0.015], 150),
}
"""Name -> payload, seconds an answer of each replica, and the question at which they die."""
THEME = TerminalTheme(
    (24, 27, 32),
    (220, 223, 228),
    [(24, 27, 32), (240, 113, 120), (130, 200, 140), (230, 190, 100), (110, 170, 240), (200, 140, 220),
     (100, 200, 210), (220, 223, 228)],
)  # fmt: skip


class Threaded:
    """A teacher in a thread of its own, one question after another."""

    def __init__(self, name: str, seconds: float, dies_at: int | None) -> None:
        self.name = name
        self._teacher = PacedTeacher(name, seconds)
        self._pool = ThreadPoolExecutor(1)
        self._left = dies_at

    def ask(self, request: Request) -> Pending:
        """Score in the thread."""
        if self._left is not None:
            self._left -= 1
        return Pending(self._pool.submit(self._score, request))

    def _score(self, request: Request) -> Any:
        if self._left is not None and self._left <= 0:
            raise ReplicaLostError("its process has ended")
        return self._teacher.score(request)

    def head(self) -> Pending:
        """There is none."""
        return Pending(self._pool.submit(self._teacher.head))

    def stop(self) -> None:
        """End the thread."""
        self._pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class Numbered:
    """What the stream needs of a batch."""

    digests: list[bytes]
    fresh: bool = False


def batches() -> Iterator[Batch]:
    """Every fourth batch has been read before."""
    for step in range(STEPS):
        batch = step // 8 if step % 4 == 3 else step
        names = (f"{batch} {n}".encode() for n in range(EXAMPLES))
        yield cast(Batch, Numbered([blake3(name).digest(16) for name in names]))


def ask(batch: Batch, spec: PayloadSpec) -> Request:
    """The question about a batch."""
    ids = [np.arange(POSITIONS + 1, dtype=np.int32) for _ in batch.digests]
    lengths_N = np.full(len(ids), POSITIONS, np.int32)
    return Request(batch_digest(batch.digests), batch.digests, lengths_N, spec, ids=ids)


def run() -> StageState:
    """Stream until the moment of the picture."""
    config = StreamConfig(
        window=8,
        on_loss="degrade",
        retries=0,
        hedge_after=4,
        hedge_min_s=0.05,
        backoff_s=30,
        backoff_max_s=30,
    )
    fleets = {
        name: [Threaded(f"{name}-{n}", seconds, dies) for n, seconds in enumerate(times)]
        for name, (_, times, dies) in TEACHERS.items()
    }
    specs = {name: spec for name, (spec, _, _) in TEACHERS.items()}
    channels = [TeacherChannel(name, FixedMembers(fleets[name]), specs[name], config) for name in TEACHERS]
    stores: dict[str, SignalStore] = {name: MemoryStore() for name in TEACHERS}
    stream = SignalStream(channels, stores, config, ask)
    state = StageState("distill", None, time.monotonic)
    begin = time.monotonic()
    try:
        for step, _ in enumerate(stream.pair(batches()), start=1):
            time.sleep(STEP_S)
            seconds = time.monotonic() - begin
            figures: dict[str, float | str] = {
                "loss": 0.35 + 1.9 * float(np.exp(-step / 70)),
                "waiting": f"{stream.waited_s / seconds:.0%}",
            }
            state.update(step, STEPS, figures)
            if step == SEEN:
                views = {c.name: {**c.view(), "wait_share": c.counters.waited_s / seconds} for c in channels}
                state.table = teacher_table(views, specs, "causal-lm")
                break
    finally:
        for fleet in fleets.values():
            for replica in fleet:
                replica.stop()
    return state


def draw(state: StageState, width: int, *, title: str = "tutelage distill") -> str:
    """The step as SVG, which loads nothing from elsewhere."""
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True)
    for line in block(state, width, UNICODE):
        console.print(line)
    picture = console.export_svg(title=title, theme=THEME)
    return re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)


def main() -> None:
    """Write the picture; print the same for people, wide and narrow."""
    state = run()
    for width in WIDTHS:
        print(*(line.plain for line in block(state, width, UNICODE)), sep="\n", end="\n\n")
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(draw(state, WIDTHS[0]), encoding="utf-8")


if __name__ == "__main__":
    main()
