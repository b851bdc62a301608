"""A gate that stops a student at a known point; a process of its own, so nothing heavy is imported."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any


class Gate:
    """Stops who passes for the `stop_at`-th time, says which process that is, and later lets all go on.

    It is also the board of the training, and keeps every post.
    """

    def __init__(self, stop_at: int) -> None:
        self._stop_at, self._passed, self._pid = stop_at, 0, 0
        self._stopped, self._open = threading.Event(), threading.Event()
        self._posts: list[dict[str, Any]] = []

    def go(self, pid: int) -> None:
        """Return at once, or when the gate is opened."""
        self._passed += 1
        if self._passed >= self._stop_at and not self._open.is_set():
            self._pid = pid
            self._stopped.set()
            self._open.wait()

    def stopped(self) -> int:
        """Wait for somebody to be stopped; gives the process."""
        self._stopped.wait()
        return self._pid

    def open(self) -> None:
        """Let everybody go on."""
        self._open.set()

    def post(self, _topic: str, post: dict[str, Any]) -> None:
        """Keep what a training says of itself."""
        self._posts.append(post)

    def beat(self, _topic: str) -> None:
        """A sign of life is no post."""

    def ages(self) -> dict[str, float]:
        """Who is stopped for a test is not missed."""
        return {}

    def read(self) -> list[dict[str, Any]]:
        """All posts so far."""
        return self._posts


@dataclass(eq=False)
class GatedReplica:
    """A replica that is asked through a gate."""

    inner: Any
    gate: Any

    @property
    def name(self) -> str:
        """The replica's name."""
        return str(self.inner.name)

    def ask(self, request: Any) -> Any:
        """Pass the gate, then ask."""
        import ray

        ray.get(self.gate.go.remote(os.getpid()))
        return self.inner.ask(request)

    def head(self) -> Any:
        """Ask without the gate."""
        return self.inner.head()


@dataclass
class WrappedMembers:
    """Members whose replicas are asked through a gate; all else goes to the members themselves."""

    inner: Any
    known: dict[int, GatedReplica] = field(default_factory=dict, init=False)

    @property
    def batch_tokens(self) -> int | None:
        """Those of the members."""
        tokens: int | None = self.inner.batch_tokens
        return tokens

    def behind(self, gate: Any) -> Any:
        """The roster, each replica behind the gate."""
        roster = self.inner.current()
        for replica in roster.replicas:
            self.known.setdefault(id(replica), GatedReplica(replica, gate))
        return replace(roster, replicas=tuple(self.known[id(replica)] for replica in roster.replicas))

    def lost(self, replica: Any, why: str) -> None:
        """Pass it on."""
        self.inner.lost(getattr(replica, "inner", replica), why)

    def report(self, load: Any) -> None:
        """Pass it on."""
        self.inner.report(load)


@dataclass
class GatedMembers(WrappedMembers):
    """Members that are asked through a gate; without a gate, the first of them alone."""

    gate: Any = None

    def current(self) -> Any:
        """The roster, each replica behind the gate."""
        if self.gate is None:
            roster = self.inner.current()
            return replace(roster, replicas=roster.replicas[:1])
        return self.behind(self.gate)


@dataclass
class KillingMembers(WrappedMembers):
    """Members that lose replicas by SIGKILL at random moments: while a question is on its way or at work."""

    seed: int
    kills: int
    """At most so many."""
    log: str
    """File with a line for each kill: the process."""
    pids: dict[int, int] = field(default_factory=dict)
    rng: Any = None

    def current(self) -> Any:
        """The roster, each replica a possible victim."""
        return self.behind(self)

    @property
    def go(self) -> Any:
        """The gate that a question passes; it may begin a kill."""
        return self

    def remote(self, _pid: int) -> Any:
        """Kill one of the replicas a few milliseconds from now, or do nothing."""
        import random
        import threading

        import ray

        self.rng = self.rng or random.Random(self.seed)
        if self.kills and self.rng.random() < 0.3:
            self.kills -= 1
            victim = self.rng.choice(self.inner.current().replicas)
            with suppress(ray.exceptions.RayError):
                pid = int(ray.get(victim.handle.describe.remote())["pid"])
                threading.Timer(self.rng.uniform(0, 0.02), self._kill, [pid]).start()
        return ray.put(None)

    def _kill(self, pid: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            with open(self.log, "a", encoding="utf-8") as file:
                file.write(f"{pid}\n")
