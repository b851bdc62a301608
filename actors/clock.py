"""Time as the stream and the fleet see it, and the twin by which tests make hours pass at once."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """A clock that never goes back, and a way to wait for something by it."""

    def now(self) -> float:
        """Seconds since some moment."""
        ...

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        """Until the event is set or the time has passed; says whether it is set."""
        ...


class SystemClock:
    """The machine's own."""

    def now(self) -> float:
        """Seconds since the machine started."""
        return time.monotonic()

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        """Until the event is set or the time has passed."""
        return event.wait(timeout_s)


class ManualClock:
    """The twin: time passes when somebody waits or says so, and what was planned for then happens then.

    Everything runs in the caller's thread, so a test of hours takes milliseconds and repeats exactly.
    """

    def __init__(self, now: float = 0.0) -> None:
        self._now = now
        self._plans: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def now(self) -> float:
        """The time that the test has reached."""
        return self._now

    def plan(self, after_s: float, action: Callable[[], None]) -> None:
        """Do something when so much time has passed; plans of one moment in the order in which they came."""
        heapq.heappush(self._plans, (self._now + after_s, next(self._numbers), action))

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        end = self._now + seconds
        while self._next(end):
            pass
        self._now = end

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        """Let time pass until the event is set, at most the timeout."""
        end = self._now + timeout_s
        while not event.is_set():
            if not self._next(end):
                self._now = end
                break
        return event.is_set()

    def _next(self, end: float) -> bool:
        """Go to the next plan up to `end` and do it."""
        if not self._plans or self._plans[0][0] > end:
            return False
        self._now, _, action = heapq.heappop(self._plans)
        action()
        return True
