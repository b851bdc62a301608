"""Who may be asked now: the replicas of one teacher as a student worker knows them."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from actors.replica import RayReplica, Replica

PAUSE_S = 0.5
"""Time between two attempts to reach a supervisor that does not answer."""


@dataclass(frozen=True)
class Load:
    """How busy one student worker keeps a teacher, as far as it can see."""

    source: str
    """Which worker says so."""
    wait_s: float
    """Smoothed time of its questions that was not work."""
    working: float
    """Replicas that its questions kept at work, on average since its last report."""


@dataclass(frozen=True)
class Roster:
    """The replicas of one teacher at one moment."""

    replicas: tuple[Replica, ...] = ()
    """Those that have loaded their model and are not being ended."""
    starting: int = 0
    respawns: int = 0
    """Replicas that were started in place of lost ones, so far."""
    broken: str = ""
    """Why no replica can be had, once waiting for one is in vain."""
    said: str = ""
    """Why the last replica was lost, or could not be started."""


class Members(Protocol):
    """Gives the roster, and hears what happens to it. It travels to other processes by pickle."""

    batch_tokens: int | None
    """Requests that weigh more are cut into parts."""

    def current(self) -> Roster:
        """The roster, without waiting (the first time, up to a second)."""
        ...

    def lost(self, replica: Replica, why: str) -> None:
        """This replica is gone, hangs, or lies; it should be replaced."""
        ...

    def report(self, load: Load) -> None:
        """Say how busy the teacher is kept, without waiting."""
        ...


Fleets = Mapping[str, Members | Sequence[Replica]]
"""The members of each teacher; a list of replicas is members that stay as they are."""


class FixedMembers:
    """Replicas that nobody starts, ends or replaces: for one process, and for tests."""

    def __init__(self, replicas: Sequence[Replica], batch_tokens: int | None = None) -> None:
        self.batch_tokens = batch_tokens
        self.losses: list[tuple[str, str]] = []
        self.loads: list[Load] = []
        self._roster = Roster(tuple(replicas), broken="" if replicas else "it has no replicas")

    def current(self) -> Roster:
        """Always the same."""
        return self._roster

    def lost(self, replica: Replica, why: str) -> None:
        """Remember it. The replica stays: there is no other way to learn whether it is back."""
        self.losses.append((replica.name, why))

    def report(self, load: Load) -> None:
        """Remember it."""
        self.loads = [load]


class RayMembers:
    """What the supervisor says, told by it at the moment of a change.

    One call is always waiting at the supervisor, which answers it when the roster changes; `current` looks
    whether it has been answered. So a roster costs nothing while nothing changes.
    """

    def __init__(self, teacher: str, supervisor: Any, batch_tokens: int | None = None) -> None:
        self.batch_tokens = batch_tokens
        self._teacher = teacher
        self._supervisor = supervisor
        self._begin()

    def _begin(self) -> None:
        self._known: dict[Any, RayReplica] = {}
        self._roster = Roster(starting=1)
        self._version: Any = None
        self._watch: Any = None
        self._retry_at = 0.0

    def __getstate__(self) -> tuple[str, Any, int | None]:
        return self._teacher, self._supervisor, self.batch_tokens

    def __setstate__(self, state: tuple[str, Any, int | None]) -> None:
        self._teacher, self._supervisor, self.batch_tokens = state
        self._begin()

    def current(self) -> Roster:
        """The roster of the newest message."""
        import ray

        if self._watch is None and time.monotonic() >= self._retry_at:
            self._watch = self._supervisor.watch.remote(self._teacher, self._version).future()
        if self._watch is None:
            return self._roster
        try:
            wait_s = 1.0 if self._version is None else 0.0
            self._take(*self._watch.result(wait_s))
        except TimeoutError:
            return self._roster
        except ray.exceptions.RayError as error:
            # It is being started again, or the job ends; those who are known may still answer.
            self._retry_at = time.monotonic() + PAUSE_S
            self._roster = Roster(self._roster.replicas, starting=1, said=str(error).partition("\n")[0])
            self._watch = None
            return self._roster
        self._watch = self._supervisor.watch.remote(self._teacher, self._version).future()
        return self._roster

    def lost(self, replica: Replica, why: str) -> None:
        """Leave it out at once, and tell the supervisor."""
        rest = tuple(other for other in self._roster.replicas if other is not replica)
        if len(rest) == len(self._roster.replicas):
            return
        self._roster = Roster(rest, self._roster.starting, self._roster.respawns, said=why)
        self._supervisor.lost.remote(self._teacher, replica.name, why)

    def report(self, load: Load) -> None:
        """Tell the supervisor."""
        self._supervisor.report.remote(self._teacher, load)

    def _take(self, version: Any, named: list[tuple[str, Any]], facts: dict[str, Any]) -> None:
        """Replicas that stay keep their object, by which a channel knows them."""
        known: dict[Any, RayReplica] = {}
        for name, seat in named:
            known[seat.id] = self._known.get(seat.id) or RayReplica(name, seat)
        self._known, self._version = known, version
        replicas = list(known.values())
        # Workers begin at different replicas, so that their first questions do not all go to one.
        first = os.getpid() % len(replicas) if replicas else 0
        self._roster = Roster((*replicas[first:], *replicas[:first]), **facts)
