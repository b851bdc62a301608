"""A fleet that starts when its first question is asked, and teachers whose signals are all in the store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from actors.fleet import Fleet
from actors.members import Load, Members, Roster
from actors.replica import Replica
from tutelage.errors import TeacherError


class FleetOnDemand:
    """Holds a fleet that may never be needed: where the signal store has everything, no teacher loads."""

    def __init__(self, start: Callable[[], Fleet], teachers: dict[str, int | None]) -> None:
        """Args:
        start: starts the fleet.
        teachers: `batch_tokens` of each teacher.
        """
        self._start = start
        self._fleet: Fleet | None = None
        self.members: dict[str, Members] = {
            name: _Waiting(tokens, lambda name=name: self._running().members[name])  # type: ignore[misc]
            for name, tokens in teachers.items()
        }

    def _running(self) -> Fleet:
        if self._fleet is None:
            self._fleet = self._start()
        return self._fleet

    def stop(self) -> None:
        """End all replicas, where there are some."""
        if self._fleet is not None:
            self._fleet.stop()
        self._fleet = None


class _Waiting:
    """Members that exist from the first look on."""

    def __init__(self, batch_tokens: int | None, find: Callable[[], Members]) -> None:
        self.batch_tokens = batch_tokens
        self._find = find

    def current(self) -> Roster:
        """The roster; the fleet starts now where it has not."""
        return self._find().current()

    def lost(self, replica: Replica, why: str) -> None:
        """Tell the fleet."""
        self._find().lost(replica, why)

    def report(self, load: Load) -> None:
        """Tell the fleet, where there is something to tell."""
        if load.working or load.wait_s:
            self._find().report(load)


@dataclass
class Scored:
    """Members of a teacher that is asked nothing any more: all its signals are in the store."""

    name: str
    batch_tokens: int | None = field(default=None)

    def current(self) -> Roster:
        """Raises TeacherError: whoever looks wants to ask."""
        raise TeacherError(
            f"a signal of teacher '{self.name}' is not in the store any more, and its fleet has ended",
            fix="raise stream.store.max_gb; repeating the command scores what is missing",
        )

    def lost(self, replica: Replica, why: str) -> None:
        """There is none."""

    def report(self, load: Load) -> None:
        """Nobody listens."""
