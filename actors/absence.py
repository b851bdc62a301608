"""A teacher that is done without for a while (`stream.on_loss: degrade`), and how it comes back."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from actors.replica import Replica

NOTES = 20
"""Notes that are kept."""


class Absence:
    """Whether the teacher is left out. One question is let through when it may be healthy again."""

    def __init__(self, teacher: str, probe_s: float) -> None:
        self.notes: deque[str] = deque(maxlen=NOTES)
        self._teacher = teacher
        self._probe_s = probe_s
        self._roster: set[Replica] | None = None
        """Who could not answer; None while the teacher is heard."""
        self._probe_at = 0.0

    def __bool__(self) -> bool:
        return self._roster is not None

    def begin(self, why: str, replicas: Iterable[Replica], now: float) -> None:
        """The teacher is left out from now on, or still."""
        if self._roster is None:
            self.notes.append(f"teacher '{self._teacher}' is left out from here on: it {why}")
        self._roster, self._probe_at = set(replicas), now + self._probe_s

    def note(self, words: str) -> None:
        """Something that a person should know, and that is no absence."""
        self.notes.append(words)

    def over(self) -> None:
        """It has answered."""
        if self._roster is not None:
            self._roster = None
            self.notes.append(f"teacher '{self._teacher}' is back")

    def probes(self, replicas: tuple[Replica, ...], now: float) -> bool:
        """Whether to ask it once: when there is a replica that is new, or it has had time to recover."""
        if self._roster is None or not replicas:
            return False
        if now < self._probe_at and all(replica in self._roster for replica in replicas):
            return False
        self._roster, self._probe_at = set(replicas), now + self._probe_s
        return True
