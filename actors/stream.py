"""The stream of signals: looks ahead, asks the teachers, and hands each batch over in order.

At most `window` batches are on their way, so memory does not grow with the data. A batch whose
signals are in the store asks nobody. A reply that is late, lost or wrong is asked again of another
replica. Batches leave in the order in which they came, each once, whatever the replicas do.

Shapes: B batch, C classes, K teachers.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from statistics import median

import numpy as np

from actors.replica import Pending, Replica, ReplicaAwayError, ReplicaLateError, ReplicaLostError
from tutelage.config.runtime import StreamConfig
from tutelage.data.examples import Batch
from tutelage.errors import TeacherError
from tutelage.signals.exchange import Logits, Reply, Request, batch_digest, fault
from tutelage.signals.store import SignalStore

RESTART_PAUSE_S = 1.0
"""Time between two looks at replicas that are all being restarted."""


@dataclass
class TeacherCounters:
    """What one teacher cost one student worker."""

    calls: int = 0
    examples: int = 0
    cached: int = 0
    """Examples answered by the store."""
    bytes_sent: int = 0
    bytes_received: int = 0
    retries: int = 0
    seconds: list[float] = field(default_factory=list)
    """Working time of each call, at most the last thousand."""

    def add(self, request: Request, reply: Reply) -> None:
        """Count one good reply."""
        self.calls += 1
        self.examples += len(request.texts)
        self.bytes_sent += sum(len(text.encode()) for text in request.texts) + len(request.digest)
        self.bytes_received += reply.logits_BC.nbytes + len(reply.digest)
        self.seconds = [*self.seconds[-999:], reply.seconds]

    @staticmethod
    def total(parts: list[TeacherCounters]) -> TeacherCounters:
        """The sum over student workers."""
        whole = TeacherCounters()
        for part in parts:
            for name in ("calls", "examples", "cached", "bytes_sent", "bytes_received", "retries"):
                setattr(whole, name, getattr(whole, name) + getattr(part, name))
            whole.seconds += part.seconds
        return whole

    def to_json(self) -> dict[str, float]:
        """Plain values, with the median working time of a call in place of all times."""
        values = {name: value for name, value in asdict(self).items() if name != "seconds"}
        return {**values, "p50_ms": 1000 * median(self.seconds) if self.seconds else 0.0}


class TeacherChannel:
    """One teacher's replicas: the least busy one is asked, a fault moves the batch to the next."""

    def __init__(
        self,
        name: str,
        replicas: list[Replica],
        classes: int,
        config: StreamConfig,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.name = name
        self.counters = TeacherCounters()
        self._replicas = replicas
        self._classes = classes
        self._config = config
        self._pause = pause
        self._outstanding: Counter[int] = Counter()

    def ask(self, request: Request) -> tuple[int, Pending]:
        """Send the request to the least busy replica."""
        index = min(range(len(self._replicas)), key=lambda i: (self._outstanding[i], i))
        return self._send(index, request)

    def take(self, request: Request, asked: tuple[int, Pending]) -> Logits:
        """Wait for a reply that can be trusted. Raises TeacherError when the retries are used up.

        A replica that is being restarted costs no retry until it has had `deadline_s` to load its model.
        """
        faults: list[str] = []
        away, patience_s = 0, self._config.deadline_s
        while True:
            index, pending = asked
            restarting = False
            try:
                reply = pending.take(self._config.deadline_s)
                problem = fault(request, reply, self._classes)
            except (ReplicaLostError, ReplicaLateError) as error:
                problem, restarting = str(error), isinstance(error, ReplicaAwayError)
            self._outstanding[index] -= 1
            if problem is None:
                self.counters.add(request, reply)
                return reply.logits_BC
            if restarting and patience_s > 0:
                self.counters.retries += not away
                away += 1
                if away % len(self._replicas) == 0:
                    patience_s -= RESTART_PAUSE_S
                    self._pause(RESTART_PAUSE_S)
                asked = self._send((index + 1) % len(self._replicas), request)
                continue
            faults.append(f"{self._replicas[index].name}: {problem}")
            if len(faults) > self._config.retries:
                raise TeacherError(
                    f"teacher '{self.name}' gave no usable reply for batch {request.digest.hex()} "
                    f"in {len(faults)} attempts: {'; '.join(faults)}",
                    fix="look at the teacher's log; stream.retries and stream.deadline_s set the patience",
                )
            self.counters.retries += 1
            rounds, others = divmod(len(faults), len(self._replicas))
            if not others:
                # Every replica has failed and is being restarted: give them time to load their model.
                self._pause(min(8.0, 0.5 * 2**rounds))
            asked = self._send((index + 1) % len(self._replicas), request)

    def _send(self, index: int, request: Request) -> tuple[int, Pending]:
        self._outstanding[index] += 1
        return index, self._replicas[index].ask(request)


@dataclass
class _Slot:
    batch: Batch
    request: Request | None
    known: dict[str, Logits]
    asked: dict[str, tuple[int, Pending]]


class SignalStream:
    """Pairs each batch with the logits of all teachers."""

    def __init__(
        self, channels: list[TeacherChannel], stores: dict[str, SignalStore], config: StreamConfig
    ) -> None:
        self.channels = channels
        self._stores = stores
        self._window = config.window
        self.waited_s = 0.0
        """Time the student waited for teachers."""

    def pair(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, Logits | None]]:
        """Each batch with its logits [K, B, C], in order; None for teachers where there are none."""
        ahead: deque[_Slot] = deque()
        for batch in batches:
            ahead.append(self._begin(batch))
            if len(ahead) >= self._window:
                yield self._finish(ahead.popleft())
        while ahead:
            yield self._finish(ahead.popleft())

    def flush(self) -> None:
        """Make all signals so far safe."""
        for store in self._stores.values():
            store.flush()

    def refresh(self) -> None:
        """See the signals that other workers have flushed."""
        for store in self._stores.values():
            store.refresh()

    def _begin(self, batch: Batch) -> _Slot:
        slot = _Slot(batch, None, {}, {})
        for channel in self.channels:
            logits_BC = self._stores[channel.name].get(batch.digests)
            if logits_BC is not None:
                slot.known[channel.name] = logits_BC
                channel.counters.cached += len(batch.digests)
                continue
            if slot.request is None:
                slot.request = Request(batch.texts, batch_digest(batch.digests))
            slot.asked[channel.name] = channel.ask(slot.request)
        return slot

    def _finish(self, slot: _Slot) -> tuple[Batch, Logits | None]:
        begin = time.perf_counter()
        for channel in self.channels:
            if channel.name in slot.asked and slot.request is not None:
                store, digests = self._stores[channel.name], slot.batch.digests
                store.put(digests, channel.take(slot.request, slot.asked[channel.name]))
                # A text scored before beside other texts may differ in its last bit: what the store
                # kept is what the student hears, so that a cold and a warm run give the same numbers.
                kept_BC = store.get(digests)
                assert kept_BC is not None
                slot.known[channel.name] = kept_BC
        self.waited_s += time.perf_counter() - begin
        if not self.channels:
            return slot.batch, None
        return slot.batch, np.stack([slot.known[channel.name] for channel in self.channels])
