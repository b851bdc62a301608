"""A gate that stops a student at a known point; a process of its own, so nothing heavy is imported."""

from __future__ import annotations

import os
import threading
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
class GatedMembers:
    """Members that are asked through a gate; without a gate, the first of them alone."""

    inner: Any
    gate: Any = None
    known: dict[int, GatedReplica] = field(default_factory=dict)

    @property
    def batch_tokens(self) -> int | None:
        """Those of the members."""
        tokens: int | None = self.inner.batch_tokens
        return tokens

    def current(self) -> Any:
        """The roster, each replica behind the gate."""
        roster = self.inner.current()
        if self.gate is None:
            return replace(roster, replicas=roster.replicas[:1])
        for replica in roster.replicas:
            self.known.setdefault(id(replica), GatedReplica(replica, self.gate))
        return replace(roster, replicas=tuple(self.known[id(replica)] for replica in roster.replicas))

    def lost(self, replica: Any, why: str) -> None:
        """Pass it on."""
        self.inner.lost(getattr(replica, "inner", replica), why)

    def report(self, load: Any) -> None:
        """Pass it on."""
        self.inner.report(load)
