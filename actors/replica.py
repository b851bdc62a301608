"""A replica as the stream sees it: a question is sent now, its answer is taken later."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

from actors.reasons import lasting, named_reason, own_error, passing, reason
from actors.teacher import Scorer
from tutelage.signals.exchange import Request


class ReplicaLostError(Exception):
    """The replica's process is gone; another may answer."""


class ReplicaAwayError(ReplicaLostError):
    """The replica cannot be reached for the moment; it may come back by itself."""


class ReplicaFailedError(Exception):
    """The replica lives, and answered with an exception, or with what is no answer."""

    def __init__(self, words: str, *, lasting: bool = False, passing: bool = False, fix: str = "") -> None:
        """Args:
        words: why, in a line.
        lasting: any other replica would fail in the same way.
        passing: two that fail in the same way prove nothing.
        fix: what the teacher's own error says that helps.
        """
        super().__init__(words)
        self.lasting, self.passing, self.fix = lasting, passing, fix


class ReplicaLateError(Exception):
    """No answer within the deadline."""


def as_given(error: BaseException) -> Exception:
    """An error of this module as it is; any other as what the replica failed with."""
    if isinstance(error, ReplicaLostError | ReplicaFailedError | ReplicaLateError):
        return error
    return failed(error)


def failed(error: BaseException) -> ReplicaFailedError:
    """What the teacher's own code raised."""
    ours = own_error(error)
    return ReplicaFailedError(
        named_reason(error), lasting=lasting(error), passing=passing(error), fix=ours.fix if ours else ""
    )


def _nothing() -> None:
    """There is nothing to call off."""


@dataclass(frozen=True, eq=False)
class Pending:
    """An answer on its way."""

    future: Future[Any]
    cancel: Callable[[], None] = _nothing
    """Tell the replica that nobody waits any more; work that has begun may go on."""
    translate: Callable[[BaseException], Exception] = as_given

    def take(self, deadline_s: float | None = None) -> Any:
        """The answer: a Reply, or what else was asked for.

        Raises ReplicaLostError, ReplicaAwayError, ReplicaFailedError or ReplicaLateError.
        """
        try:
            return self.future.result(deadline_s)
        except TimeoutError as error:
            if self.future.done():
                raise self.translate(error) from error
            self.cancel()
            raise ReplicaLateError(f"no answer within {deadline_s:g} s") from error
        except Exception as error:
            raise self.translate(error) from error


class Replica(Protocol):
    """One process that scores for a teacher. Two objects are two replicas, whatever their names."""

    @property
    def name(self) -> str:
        """What it is called in errors and reports."""
        ...

    def ask(self, request: Request) -> Pending:
        """Send the request without waiting; the answer is a Reply."""
        ...

    def head(self) -> Pending:
        """Ask for the output layer without waiting; the answer is float32 [V, H]."""
        ...


class LocalReplica:
    """A teacher in this process: the answer is there when `ask` returns."""

    def __init__(self, teacher: Scorer, name: str = "local") -> None:
        self.name = name
        self._teacher = teacher

    def ask(self, request: Request) -> Pending:
        """Score at once."""
        return done(lambda: self._teacher.score(request))

    def head(self) -> Pending:
        """The teacher's output layer."""
        return done(self._teacher.head)


def done(work: Callable[[], Any]) -> Pending:
    """Do the work now; its result or exception is the answer."""
    future: Future[Any] = Future()
    try:
        future.set_result(work())
    except Exception as error:  # the asker's to judge, as one from another process is
        future.set_exception(error)
    return Pending(future)


class RayReplica:
    """A teacher in a Ray actor.

    The future of a call tells when its answer arrived, which a later `ray.get` could not. That costs about
    0.25 ms for a small answer (docs/stream.md has the figures).
    """

    def __init__(self, name: str, handle: Any) -> None:
        self.name = name
        self.handle = handle

    def ask(self, request: Request) -> Pending:
        """Submit the actor call."""
        return ray_pending(self.handle.score.remote(request))

    def head(self) -> Pending:
        """Submit the actor call."""
        return ray_pending(self.handle.head.remote())


def ray_pending(reference: Any) -> Pending:
    """A Ray call on its way, with its errors as those of this module."""

    def cancel() -> None:
        import ray

        ray.cancel(reference)

    return Pending(reference.future(), cancel, _from_ray)


def _from_ray(error: BaseException) -> Exception:
    import ray

    if isinstance(error, ray.exceptions.ActorUnavailableError):
        return ReplicaAwayError(reason(error))
    if isinstance(error, ray.exceptions.RayTaskError) or not isinstance(error, ray.exceptions.RayError):
        return failed(error)
    return ReplicaLostError(reason(error))
