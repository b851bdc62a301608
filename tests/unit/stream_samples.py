"""Batches without a file, and replicas that fail on demand, for the tests of the stream.

Time is a manual clock's: a replica answers when the clock reaches the end of its work. Shapes: N examples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from blake3 import blake3

from actors.channel import TeacherChannel
from actors.clock import ManualClock
from actors.members import FixedMembers, Members
from actors.replica import Pending, ReplicaAwayError, ReplicaLostError
from actors.stream import SignalStream
from actors.teacher import ScriptedTeacher, with_logits
from tutelage.config.runtime import StreamConfig
from tutelage.data.batch import Batch
from tutelage.signals.exchange import Logits, Reply, Request, batch_digest
from tutelage.signals.packet import Packet
from tutelage.signals.spec import PayloadSpec
from tutelage.signals.store import MemoryStore

CLASSES = 3
SPEC = PayloadSpec("dense", CLASSES)
FAULTS = ("lost", "late", "digest", "nan", "inf", "shape", "raises")


def rule(text: str, teacher: int = 0) -> list[float]:
    """Three logits that tell texts and teachers apart."""
    number = int.from_bytes(blake3(f"{teacher} {text}".encode()).digest(3), "big")
    return [number / 1000, -number / 999, float(len(text))]


def digest(text: str) -> bytes:
    return blake3(text.encode()).digest(length=16)


def request(*texts: str) -> Request:
    """A question about texts."""
    digests = [digest(text) for text in texts]
    return Request(batch_digest(digests), digests, np.ones(len(texts), np.int32), SPEC, texts=list(texts))


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
                rows=rows,
                digests=[digest(text) for text in part],
                input_ids_BT=ids_BT,
                attention_mask_BT=ids_BT,
                labels_B=np.full(len(part), -1, np.int64),
                _examples=source,  # type: ignore[arg-type]
            )
        )
    return made


def ask(batch: Batch, spec: PayloadSpec) -> Request:
    """The question to a teacher about a batch."""
    return replace(request(*batch.texts), spec=spec)


@dataclass
class Flight:
    """Questions under way, over all replicas of one teacher."""

    clock: ManualClock
    now: int = 0
    most: int = 0
    cancelled: int = 0
    faults: dict[int, str] = field(default_factory=dict)
    """Call number -> what goes wrong with it."""
    slow: dict[int, float] = field(default_factory=dict)
    """Call number -> seconds of work, in place of those of the replica."""
    asked: list[tuple[int, list[str]]] = field(default_factory=list)
    """Replica and texts of each call."""
    times: list[float] = field(default_factory=list)
    """When each call was made."""


class FakeReplica:
    """A replica of one teacher, which answers one call after another; all count their calls together."""

    def __init__(
        self, index: int, teacher: ScriptedTeacher, flight: Flight, work_s: float = 0.1, hangs: bool = False
    ) -> None:
        self.name = f"teacher-{index}"
        self.index = index
        self.hangs = hangs
        self._teacher = teacher
        self._flight = flight
        self._work_s = work_s
        self._free_at = 0.0

    def ask(self, request: Request) -> Pending:
        flight = self._flight
        number = len(flight.asked)
        flight.asked.append((self.index, request.texts))
        flight.times.append(flight.clock.now())
        work_s = flight.slow.get(number, self._work_s)
        return self._send(flight.faults.get(number), work_s, lambda: self._score(request, number, work_s))

    def head(self) -> Pending:
        number = len(self._flight.asked)
        self._flight.asked.append((self.index, ["head"]))
        return self._send(self._flight.faults.get(number), self._work_s, lambda: self._head(number))

    def _send(self, fault: str | None, work_s: float, answer: Callable[[], Any]) -> Pending:
        flight, future = self._flight, Future[Any]()
        flight.now += 1
        flight.most = max(flight.most, flight.now)
        self._free_at = max(self._free_at, flight.clock.now()) + work_s

        def arrive() -> None:
            flight.now -= 1
            if fault == "lost":
                future.set_exception(ReplicaLostError("the process is gone"))
            elif fault == "away":
                future.set_exception(ReplicaAwayError("the actor is restarting"))
            elif fault == "raises":
                future.set_exception(RuntimeError("no such row"))
            elif fault == "refuses":
                future.set_exception(ValueError("truncation length is not a multiple of 8"))
            else:
                future.set_result(answer())

        def cancel() -> None:
            flight.cancelled += 1

        if fault != "late" and not self.hangs:
            flight.clock.plan(self._free_at - flight.clock.now(), arrive)
        else:
            flight.now -= 1
        return Pending(future, cancel)

    def _score(self, request: Request, number: int, work_s: float) -> Reply:
        reply = replace(self._teacher.score(request), seconds=work_s)
        match self._flight.faults.get(number):
            case "digest":
                return replace(reply, digest=b"\0" * 16)
            case "nan":
                return with_logits(reply, lambda z_NC: np.full_like(z_NC, np.nan))
            case "inf":
                return with_logits(reply, lambda z_NC: np.where(z_NC == z_NC.max(), np.inf, z_NC))
            case "shape":
                return with_logits(reply, lambda z_NC: z_NC[:, :-1])
        return reply

    def _head(self, number: int) -> Logits:
        head_VH = np.arange(6, dtype=np.float32).reshape(3, 2)
        return head_VH * np.float32("nan") if self._flight.faults.get(number) == "nan" else head_VH


def logits(packet: Packet | None) -> Logits:
    """The rows of a dense packet."""
    assert packet is not None
    values: Logits = packet.columns["logits"].values
    return values


@dataclass
class Rig:
    """A stream with fake teachers, and everything that can be looked at."""

    stream: SignalStream
    flights: list[Flight]
    stores: list[MemoryStore]
    members: list[Members]
    clock: ManualClock

    @property
    def channels(self) -> list[TeacherChannel]:
        return self.stream.channels

    def run(self, parts: Sequence[Sequence[str]]) -> list[tuple[list[str], list[Packet | None]]]:
        """The texts and packets of each batch, in the order in which they come."""
        return [(batch.texts, packets) for batch, packets in self.stream.pair(batches(parts))]


def rig(
    *,
    teachers: int = 1,
    replicas: int = 1,
    faults: Sequence[dict[int, str]] = (),
    slow: dict[int, float] | None = None,
    hangs: Sequence[int] = (),
    stores: list[MemoryStore] | None = None,
    rules: Sequence[Callable[[str], list[float]]] | None = None,
    batch_tokens: int | None = None,
    members: Callable[[list[FakeReplica]], Members] | None = None,
    **config: Any,
) -> Rig:
    """Teachers t0, t1, ... of so many replicas each; `faults[k]` is what goes wrong with teacher k."""
    section = StreamConfig(**config)
    clock = ManualClock()
    flights = [
        Flight(clock, faults=faults[k] if k < len(faults) else {}, slow=slow or {}) for k in range(teachers)
    ]
    channels, everybody = [], []
    for k, flight in enumerate(flights):
        teacher = ScriptedTeacher(rules[k] if rules else lambda text, k=k: rule(text, k), f"t{k}")
        fleet = [FakeReplica(index, teacher, flight, hangs=index in hangs) for index in range(replicas)]
        found = members(fleet) if members else FixedMembers(fleet, batch_tokens)
        everybody.append(found)
        channels.append(TeacherChannel(f"t{k}", found, SPEC, section, clock))
    kept = stores or [MemoryStore() for _ in flights]
    by_name = {f"t{k}": store for k, store in enumerate(kept)}
    return Rig(SignalStream(channels, dict(by_name), section, ask), flights, kept, everybody, clock)


def watched(parts: list[Batch], seen: list[int]) -> Iterator[Batch]:
    """The batches; `seen` counts those that were handed out."""
    for number, batch in enumerate(parts, start=1):
        seen.append(number)
        yield batch
