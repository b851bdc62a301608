"""What starts a replica's process, and the twin that starts none."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol

from actors.clock import ManualClock


class BrokenError(Exception):
    """The replica said itself why it cannot load; another one would say the same."""


class Body(Protocol):
    """The process of one replica."""

    handle: Any
    """What a worker needs to ask it."""
    ready: Future[Any]
    """Done when the model is loaded, or cannot be."""

    def card(self) -> dict[str, str]:
        """What it says of itself, once it is ready."""
        ...

    def ping(self) -> Future[Any]:
        """Done when it has answered all that it was asked before, or is gone."""
        ...

    def why(self, error: BaseException | None) -> str:
        """One of its errors in a line."""
        ...

    def end(self) -> None:
        """End it at once, also when it hangs."""
        ...


class Spawner(Protocol):
    """Starts processes."""

    def start(self, teacher: str, name: str) -> Body:
        """Begin to start a replica, without waiting."""
        ...

    def room(self, teacher: str) -> bool:
        """Whether one more replica of this teacher fits in what nobody uses or needs."""
        ...

    def room_text(self) -> str:
        """What is free, for a message."""
        ...


class ManualBody:
    """A replica of the twin: loads in the time that it is told to, and dies when told."""

    def __init__(
        self, name: str, handle: Any, clock: ManualClock, load_s: float, error: Exception | None
    ) -> None:
        self.name = name
        self.handle = handle
        self.ready: Future[Any] = Future()
        self.started_at = clock.now()
        self.ended_at: float | None = None
        self.hung = False
        self.work_s = 0.0
        """How long a ping takes, behind the work before it."""
        self._clock = clock
        self._dead: Exception | None = None
        self._pings: list[Future[Any]] = []
        if error is not None:
            clock.plan(load_s, lambda: self.ready.set_exception(error))
        else:
            clock.plan(load_s, lambda: self.ready.set_result(None))

    def card(self) -> dict[str, str]:
        """Its name."""
        return {"replica": self.name, "pid": "0", "device": "none"}

    def ping(self) -> Future[Any]:
        """Answered after `work_s`; never while it hangs."""
        future: Future[Any] = Future()
        self._pings.append(future)
        if not self.hung:
            self._clock.plan(self.work_s, lambda: self._answer(future))
        return future

    def why(self, error: BaseException | None) -> str:
        """The error's own text."""
        return str(error)

    def end(self) -> None:
        """Remember when."""
        self.ended_at = self._clock.now()
        self.die("ended")

    def die(self, why: str = "killed") -> None:
        """The process is gone."""
        self._dead = RuntimeError(why)
        for future in self._pings:
            self._answer(future)

    def _answer(self, future: Future[Any]) -> None:
        if future.done():
            return
        if self._dead is not None:
            future.set_exception(self._dead)
        else:
            future.set_result(None)


class ManualSpawner:
    """The twin: replicas are objects of this process, and load by a manual clock."""

    def __init__(
        self, clock: ManualClock, make: Callable[[str], Any] = str, *, load_s: float = 1.0, room: int = 99
    ) -> None:
        self.bodies: list[ManualBody] = []
        self.load_s = load_s
        self.error: Exception | None = None
        """What the next replicas fail to load with."""
        self._clock = clock
        self._make = make
        self._room = room

    def start(self, teacher: str, name: str) -> ManualBody:
        """A replica that loads in `load_s`."""
        body = ManualBody(name, self._make(name), self._clock, self.load_s, self.error)
        self.bodies.append(body)
        return body

    def room(self, teacher: str) -> bool:
        """So many replicas fit, over all teachers."""
        return sum(body.ended_at is None for body in self.bodies) < self._room

    def room_text(self) -> str:
        """How many fit."""
        return f"{self._room} replicas fit"
