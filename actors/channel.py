"""One teacher as a student worker sees it: whom to ask, whom to trust, when to give up.

Shapes: N examples of a request.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from statistics import median

from actors.replica import Pending, Replica, ReplicaAwayError, ReplicaLateError, ReplicaLostError
from tutelage.config.runtime import StreamConfig
from tutelage.errors import TeacherError
from tutelage.signals.exchange import Reply, Request
from tutelage.signals.packet import Packet
from tutelage.signals.payloads import fault
from tutelage.signals.spec import PayloadSpec

RESTART_PAUSE_S = 1.0
"""Time between two looks at replicas that are all being restarted."""


@dataclass
class TeacherCounters:
    """What one teacher cost one student worker."""

    calls: int = 0
    examples: int = 0
    positions: int = 0
    cached: int = 0
    """Examples answered by the store."""
    bytes_sent: int = 0
    bytes_received: int = 0
    retries: int = 0
    hedges: int = 0
    """Questions put to a second replica because the first was slow."""
    waited_s: float = 0.0
    """Time the student waited for this teacher."""
    seconds: list[float] = field(default_factory=list)
    """Working time of each call, at most the last thousand."""

    def add(self, request: Request, reply: Reply) -> None:
        """Count one good reply."""
        self.calls += 1
        self.examples += len(request)
        self.positions += int(reply.packet.lengths_N.sum())
        self.bytes_sent += request.nbytes
        self.bytes_received += reply.packet.nbytes + len(reply.digest)
        self.seconds = [*self.seconds[-999:], reply.seconds]

    @staticmethod
    def total(parts: list[TeacherCounters]) -> TeacherCounters:
        """The sum over student workers."""
        whole = TeacherCounters()
        for part in parts:
            for name, value in asdict(part).items():
                setattr(whole, name, getattr(whole, name) + value)
        return whole

    def to_json(self) -> dict[str, float]:
        """Plain values, with the median working time of a call in place of all times."""
        values = {name: value for name, value in asdict(self).items() if name != "seconds"}
        return {**values, "p50_ms": 1000 * median(self.seconds) if self.seconds else 0.0}


@dataclass
class Question:
    """A request and where it has been sent."""

    request: Request
    replica: int
    pending: Pending


class TeacherChannel:
    """One teacher's replicas: the least busy one is asked, a fault moves the batch to the next."""

    def __init__(
        self,
        name: str,
        replicas: list[Replica],
        spec: PayloadSpec,
        config: StreamConfig,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.name = name
        self.spec = spec
        self.counters = TeacherCounters()
        self._replicas = replicas
        self._config = config
        self._pause = pause
        self._outstanding: Counter[int] = Counter()

    def ask(self, request: Request) -> Question:
        """Send the request to the least busy replica."""
        index = min(range(len(self._replicas)), key=lambda i: (self._outstanding[i], i))
        return self._send(index, request)

    def take(self, question: Question) -> Packet | None:
        """Wait for a reply that can be trusted. Raises TeacherError when the retries are used up.

        A replica that is being restarted costs no retry until it has had `deadline_s` to load its model.
        """
        begin = time.perf_counter()
        try:
            return self._take(question)
        finally:
            self.counters.waited_s += time.perf_counter() - begin

    def _take(self, question: Question) -> Packet:
        request = question.request
        faults: list[str] = []
        away, patience_s = 0, self._config.deadline_s
        while True:
            restarting, reply = False, None
            try:
                reply = question.pending.take(self._config.deadline_s)
                problem = fault(request, reply)
            except (ReplicaLostError, ReplicaLateError) as error:
                problem, restarting = str(error), isinstance(error, ReplicaAwayError)
            index = question.replica
            self._outstanding[index] -= 1
            if problem is None and reply is not None:
                self.counters.add(request, reply)
                return reply.packet
            if restarting and patience_s > 0:
                self.counters.retries += not away
                away += 1
                if away % len(self._replicas) == 0:
                    patience_s -= RESTART_PAUSE_S
                    self._pause(RESTART_PAUSE_S)
                question = self._send((index + 1) % len(self._replicas), request)
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
            question = self._send((index + 1) % len(self._replicas), request)

    def _send(self, index: int, request: Request) -> Question:
        self._outstanding[index] += 1
        return Question(request, index, self._replicas[index].ask(request))
