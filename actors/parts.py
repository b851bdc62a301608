"""A question on its way: cut into parts, each sent to one replica, or to a second when the first is slow."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from actors.clock import Clock
from actors.replica import Pending, Replica
from tutelage.errors import TeacherError
from tutelage.signals.exchange import Request


def cut(request: Request, tokens: int | None) -> list[Request]:
    """Parts of about equal weight, each an unbroken run of examples, together all of them in order.

    A function of the request and the limit alone: so are the texts that a teacher sees beside each other,
    and with them the last bit of its answer.
    """
    weights = request.weights
    total = sum(weights)
    if tokens is None or total <= tokens or len(weights) < 2:
        return [request]
    pieces = min(-(-total // tokens), len(weights))
    parts: list[list[int]] = [[] for _ in range(pieces)]
    before = 0
    for n, weight in enumerate(weights):
        # By the middle of the example on the line of all tokens.
        parts[min(pieces - 1, (2 * before + weight) * pieces // (2 * total))].append(n)
        before += weight
    return [request.select(part) for part in parts if part]


@dataclass(eq=False)
class Attempt:
    """One sending of a part."""

    replica: Replica
    pending: Pending
    weight: int
    sent: float
    arrived: float | None = None

    @classmethod
    def send(cls, part: Part, replica: Replica, clock: Clock, wake: threading.Event) -> Attempt:
        """Ask the replica; when the answer arrives, its time is kept and `wake` is set."""
        attempt = cls(replica, part.send(replica), part.weight, clock.now())

        def arrived(_future: object) -> None:
            attempt.arrived = clock.now()
            wake.set()

        attempt.pending.future.add_done_callback(arrived)
        return attempt


@dataclass(eq=False)
class Part:
    """What is asked of one replica, and what came of it."""

    label: str
    """What it is in errors."""
    weight: int
    send: Callable[[Replica], Pending]
    check: Callable[[Any], str | None]
    """What is wrong with an answer; None when it can be trusted."""
    retries: int
    request: Request | None = None
    """None where something else than signals is asked for."""
    live: list[Attempt] = field(default_factory=list)
    failed: set[Replica] = field(default_factory=set)
    """Replicas that need not be asked again in this round."""
    faults: list[str] = field(default_factory=list)
    rounds: int = 0
    """How often all replicas have failed."""
    not_before: float = 0.0
    away_since: float | None = None
    nobody_since: float | None = None
    """Since when there is no replica to ask."""
    hedged: bool = False
    result: Any = None
    lost: bool = False
    """The teacher is done without."""
    error: TeacherError | None = None

    @property
    def settled(self) -> bool:
        """Nothing more is to come."""
        return self.result is not None or self.lost or self.error is not None


@dataclass(eq=False)
class Question:
    """A request and its parts, in order."""

    request: Request
    parts: list[Part]
