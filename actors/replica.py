"""A replica as the stream sees it: a question is sent now, its answer is taken later."""

from __future__ import annotations

from typing import Any, Protocol

from actors.reasons import reason
from actors.teacher import Scorer
from tutelage.signals.exchange import Reply, Request


class ReplicaLostError(Exception):
    """The replica's process is gone or failed; another may answer."""


class ReplicaAwayError(ReplicaLostError):
    """The replica's process is being started again and loads its model."""


class ReplicaLateError(Exception):
    """No answer within the deadline."""


class Pending(Protocol):
    """An answer on its way."""

    def take(self, deadline_s: float) -> Reply:
        """The reply. Raises ReplicaLostError, ReplicaAwayError or ReplicaLateError."""
        ...


class Replica(Protocol):
    """One process that scores for a teacher."""

    name: str

    def ask(self, request: Request) -> Pending:
        """Send the request without waiting."""
        ...


class LocalReplica:
    """A teacher in this process; scoring happens when the answer is taken."""

    def __init__(self, teacher: Scorer, name: str = "local") -> None:
        self.name = name
        self._teacher = teacher

    def ask(self, request: Request) -> Pending:
        """Remember the request."""
        return _LocalPending(self._teacher, request)


class _LocalPending:
    def __init__(self, teacher: Scorer, request: Request) -> None:
        self._teacher = teacher
        self._request = request

    def take(self, deadline_s: float) -> Reply:
        return self._teacher.score(self._request)


class RayReplica:
    """A teacher in a Ray actor."""

    def __init__(self, name: str, handle: Any) -> None:
        self.name = name
        self.handle = handle

    def ask(self, request: Request) -> Pending:
        """Submit the actor call."""
        return _RayPending(self.handle.score.remote(request))


class _RayPending:
    def __init__(self, reference: Any) -> None:
        self._reference = reference

    def take(self, deadline_s: float) -> Reply:
        import ray

        try:
            reply: Reply = ray.get(self._reference, timeout=deadline_s)
        except ray.exceptions.GetTimeoutError as error:
            ray.cancel(self._reference)
            raise ReplicaLateError(f"no answer within {deadline_s:g} s") from error
        except ray.exceptions.ActorUnavailableError as error:
            raise ReplicaAwayError(reason(error)) from error
        except ray.exceptions.RayError as error:
            raise ReplicaLostError(reason(error)) from error
        return reply
