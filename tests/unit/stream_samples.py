"""Batches without a file, and replicas that fail on demand, for the tests of the stream.

Shapes: B batch, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from blake3 import blake3

from actors.replica import Pending, ReplicaAwayError, ReplicaLateError, ReplicaLostError
from actors.stream import SignalStream, TeacherChannel
from actors.teacher import ScriptedTeacher
from tutelage.config.runtime import StreamConfig
from tutelage.data.examples import Batch
from tutelage.signals.exchange import Logits, Reply, Request
from tutelage.signals.store import MemoryStore

CLASSES = 3
FAULTS = ("lost", "late", "digest", "nan", "shape")


def rule(text: str, teacher: int = 0) -> list[float]:
    """Three logits that tell texts and teachers apart."""
    number = int.from_bytes(blake3(f"{teacher} {text}".encode()).digest(3), "big")
    return [number / 1000, -number / 999, float(len(text))]


@dataclass
class Texts:
    """What a batch reads its texts from."""

    by_row: list[str]
    asked: int = 0

    def texts(self, rows: Any) -> list[str]:
        self.asked += 1
        return [self.by_row[row] for row in rows]


def batches(parts: Sequence[Sequence[str]]) -> list[Batch]:
    """A batch for each list of texts."""
    source = Texts([text for part in parts for text in part])
    made, start = [], 0
    for part in parts:
        rows = np.arange(start, start + len(part))
        start += len(part)
        ids_BT = np.ones((len(part), 8), np.int64)
        made.append(
            Batch(
                rows,
                [blake3(text.encode()).digest(length=16) for text in part],
                ids_BT,
                ids_BT,
                np.full(len(part), -1, np.int64),
                source,  # type: ignore[arg-type]
            )
        )
    return made


@dataclass
class Flight:
    """Questions under way, over all replicas of one teacher."""

    now: int = 0
    most: int = 0
    faults: dict[int, str] = field(default_factory=dict)
    """Call number -> what goes wrong with it."""
    asked: list[tuple[int, list[str]]] = field(default_factory=list)
    """Replica and texts of each call."""


class FakeReplica:
    """A replica of one teacher; all of them count their calls together."""

    def __init__(self, index: int, teacher: ScriptedTeacher, flight: Flight) -> None:
        self.name = f"teacher-{index}"
        self._index = index
        self._teacher = teacher
        self._flight = flight

    def ask(self, request: Request) -> Pending:
        flight = self._flight
        number = len(flight.asked)
        flight.asked.append((self._index, request.texts))
        flight.now += 1
        flight.most = max(flight.most, flight.now)
        return _FakePending(self._teacher, request, flight, flight.faults.get(number))


@dataclass
class _FakePending:
    teacher: ScriptedTeacher
    request: Request
    flight: Flight
    fault: str | None

    def take(self, deadline_s: float) -> Reply:
        self.flight.now -= 1
        if self.fault == "lost":
            raise ReplicaLostError("the process is gone")
        if self.fault == "away":
            raise ReplicaAwayError("the actor is restarting")
        if self.fault == "late":
            raise ReplicaLateError(f"no answer within {deadline_s:g} s")
        reply = self.teacher.score(self.request)
        match self.fault:
            case "digest":
                return replace(reply, digest=b"\0" * 16)
            case "nan":
                return replace(reply, logits_BC=np.where(reply.logits_BC == 0, 0, np.nan))
            case "shape":
                return replace(reply, logits_BC=reply.logits_BC[:, :-1])
        return reply


def refuse_to_pause(seconds: float) -> None:
    raise AssertionError(f"paused for {seconds} s")


@dataclass
class Rig:
    """A stream with fake teachers, and everything that can be looked at."""

    stream: SignalStream
    flights: list[Flight]
    stores: list[MemoryStore]

    @property
    def channels(self) -> list[TeacherChannel]:
        return self.stream.channels

    def run(self, parts: Sequence[Sequence[str]]) -> list[tuple[list[str], Logits | None]]:
        """The texts and logits of each batch, in the order in which they come."""
        return [(batch.texts, logits) for batch, logits in self.stream.pair(batches(parts))]


def rig(
    *,
    teachers: int = 1,
    replicas: int = 1,
    faults: Sequence[dict[int, str]] = (),
    stores: list[MemoryStore] | None = None,
    rules: Sequence[Callable[[str], list[float]]] | None = None,
    pause: Callable[[float], None] = refuse_to_pause,
    **config: Any,
) -> Rig:
    """Teachers t0, t1, ... of so many replicas each; `faults[k]` is what goes wrong with teacher k."""
    section = StreamConfig(**config)
    flights = [Flight(faults=faults[k] if k < len(faults) else {}) for k in range(teachers)]
    channels = []
    for k, flight in enumerate(flights):
        teacher = ScriptedTeacher(rules[k] if rules else lambda text, k=k: rule(text, k), f"t{k}")
        fleet = [FakeReplica(index, teacher, flight) for index in range(replicas)]
        channels.append(TeacherChannel(f"t{k}", list(fleet), CLASSES, section, pause))
    kept = stores or [MemoryStore() for _ in flights]
    by_name = {f"t{k}": store for k, store in enumerate(kept)}
    return Rig(SignalStream(channels, dict(by_name), section), flights, kept)


def watched(parts: list[Batch], seen: list[int]) -> Iterator[Batch]:
    """The batches; `seen` counts those that were handed out."""
    for number, batch in enumerate(parts, start=1):
        seen.append(number)
        yield batch
