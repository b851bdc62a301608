"""How fast a teacher answers one student worker: what hedging, scaling and the live view go by."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from statistics import median

from actors.members import Load

REPORT_S = 1.0
"""Time between two reports to the supervisor."""
SHOWN_S = 10.0
"""Replies a second are those of the last so many seconds."""
SMOOTHING = 0.2
"""Weight of the newest queue wait in the smoothed one."""
ENOUGH = 5
"""Replies before their median is trusted."""


class Pace:
    """Times of replies, newest last."""

    def __init__(self, source: str, now: float) -> None:
        self._source = source
        self._latencies: deque[float] = deque(maxlen=64)
        self._arrivals: deque[float] = deque()
        self._wait_s = 0.0
        self._work_s = 0.0
        self._work_since_report = 0.0
        self._reported = now

    def add(self, now: float, latency_s: float, work_s: float) -> None:
        """Count a good reply."""
        self._latencies.append(latency_s)
        self._arrivals.append(now)
        self._wait_s += SMOOTHING * (max(0.0, latency_s - work_s) - self._wait_s)
        self._work_s += SMOOTHING * (work_s - self._work_s)
        self._work_since_report += work_s
        self._forget(now)

    def hedge_s(self, after: float | None, least_s: float) -> float | None:
        """Age at which a question is put to a second replica; None where there is nothing to go by."""
        if after is None or len(self._latencies) < ENOUGH:
            return None
        return max(least_s, after * median(self._latencies))

    def due(self, now: float) -> bool:
        """Whether a report should be sent."""
        return now - self._reported >= REPORT_S

    def load(self, now: float, sent: Iterable[float]) -> Load:
        """A report; `sent` are the times of the questions still open.

        A question that waits for long counts before it is answered: else a fleet that answers nothing
        would have no load.
        """
        oldest_s = max((now - time for time in sent), default=0.0)
        elapsed = max(now - self._reported, 1e-9)
        load = Load(
            self._source, max(self._wait_s, oldest_s - self._work_s), self._work_since_report / elapsed
        )
        self._reported, self._work_since_report = now, 0.0
        return load

    def replies_per_s(self, now: float) -> float:
        """Good replies a second, lately."""
        self._forget(now)
        return len(self._arrivals) / SHOWN_S

    def _forget(self, now: float) -> None:
        while self._arrivals and now - self._arrivals[0] > SHOWN_S:
            self._arrivals.popleft()
