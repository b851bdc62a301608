"""What a teacher cost, counted where the student stands."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from statistics import median

from tutelage.signals.exchange import Reply, Request

KEPT = 1000
"""Times that are kept for a median."""


@dataclass
class TeacherCounters:
    """What one teacher cost one student worker. Replies that were refused or dropped are not in it."""

    calls: int = 0
    """Good replies; a question that is cut into parts has one for each."""
    examples: int = 0
    positions: int = 0
    cached: int = 0
    """Examples answered by the store."""
    bytes_sent: int = 0
    bytes_received: int = 0
    retries: int = 0
    """Questions put once more because of a fault."""
    hedges: int = 0
    """Questions put to a second replica because the first was slow."""
    lost_batches: int = 0
    """Batches that went on without this teacher (`stream.on_loss: degrade`)."""
    worked_s: float = 0.0
    """Time that its replicas worked on what was counted."""
    waited_s: float = 0.0
    """Time the student waited for this teacher."""
    seconds: list[float] = field(default_factory=list)
    """Working time of each call, at most the last thousand."""
    queue_s: list[float] = field(default_factory=list)
    """Time of each call that was not work: on the way, and behind others."""

    def add(self, request: Request, reply: Reply, latency_s: float | None = None) -> None:
        """Count one good reply, which came so long after its question was sent."""
        self.calls += 1
        self.examples += len(request)
        self.positions += int(reply.packet.lengths_N.sum())
        self.bytes_sent += request.nbytes
        self.bytes_received += reply.packet.nbytes + len(reply.digest)
        self.worked_s += reply.seconds
        _keep(self.seconds, reply.seconds)
        if latency_s is not None:
            _keep(self.queue_s, max(0.0, latency_s - reply.seconds))

    @staticmethod
    def total(parts: list[TeacherCounters]) -> TeacherCounters:
        """The sum over student workers."""
        whole = TeacherCounters()
        for part in parts:
            for name, value in asdict(part).items():
                setattr(whole, name, getattr(whole, name) + value)
        return whole

    def to_json(self) -> dict[str, float]:
        """Plain values, with the medians of working time and queue wait in place of all times."""
        values = {name: value for name, value in asdict(self).items() if name not in ("seconds", "queue_s")}
        return {**values, "p50_ms": _median_ms(self.seconds), "queue_p50_ms": _median_ms(self.queue_s)}


def _keep(times: list[float], value: float) -> None:
    times.append(value)
    if len(times) > KEPT:
        del times[: len(times) - KEPT]


def _median_ms(times: list[float]) -> float:
    return 1000 * median(times) if times else 0.0
