"""A question on its way: cut into parts, each sent to one replica, or to a second when the first is slow."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from actors.clock import Clock
from actors.replica import Pending, Replica, ReplicaFailedError
from tutelage.errors import TeacherError
from tutelage.signals.exchange import Request

_ADDRESS = re.compile(r"0x[0-9a-f]+")
"""Where an object stands in its process is no part of what went wrong."""


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
    said: dict[str, Replica] = field(default_factory=dict)
    """What was wrong with an answer, and which replica it was that answered so first."""
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

    def fresh(
        self, replicas: Sequence[Replica], now: float, pause_s: float, longest_s: float
    ) -> list[Replica]:
        """Those that may be asked; none for a while, longer each time, where all of them have failed."""
        left = [replica for replica in replicas if replica not in self.failed]
        if not left:
            if not self.not_before:
                self.not_before = now + min(longest_s, pause_s * 2**self.rounds)
                self.rounds += 1
            if now < self.not_before:
                return []
            self.failed.clear()
            left = list(replicas)
        self.not_before = 0.0
        return left

    def unusable(self, reply: Any, problem: str) -> ReplicaFailedError:
        """The answer, as a failure; one to another question says nothing of this one."""
        mixed_up = self.request is not None and reply.digest != self.request.digest
        return ReplicaFailedError(f"answered with {problem}", passing=mixed_up)

    def repeated(self, replica: Replica, error: ReplicaFailedError) -> bool:
        """Whether it is proved that every replica would fail in this way. Remembers who said what."""
        first = self.said.setdefault(_ADDRESS.sub("", str(error)), replica)
        return error.lasting or (first is not replica and not error.passing)


@dataclass(eq=False)
class Question:
    """A request and its parts, in order."""

    request: Request
    parts: list[Part]
