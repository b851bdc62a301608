"""Putting a version in the place of another: nothing is taken away before the new one has proved itself.

1. A candidate process loads the version, answers its probes and ends. Nothing of the endpoint has changed.
2. Serve starts the new replicas beside the old ones, each of which answers the probes again, and moves the
   route.
3. Where they do not come up, Serve is told the old target again: the old replicas have answered all along.

A command that is killed in 1 leaves the endpoint as it was; in 2, Serve goes on with a version that was
proved.
Pure: what Ray and Serve do is behind `Place`, so that a test needs neither.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from serve_apps.targets import Running, Target, check_place
from tutelage.errors import DeployError, TutelageError

POLL_S = 0.1
FAILED = ("DEPLOY_FAILED", "UNHEALTHY")
Tell = Callable[[str], None]


class Place(Protocol):
    """Where endpoints run."""

    def applications(self) -> Mapping[str, Running]:
        """All of them by name, other people's too."""
        ...

    def prove(self, target: Target, limit_s: float, tell: Tell) -> None:
        """Load the version in a process of its own and have it answer its probes. Raises TutelageError."""
        ...

    def run(self, target: Target) -> None:
        """Tell Serve what the endpoint is to answer with; returns at once."""
        ...

    def delete(self, name: str) -> None:
        """Take an application down."""
        ...

    def differs(self, target: Target) -> str:
        """Why the proxy does not answer with the target yet; empty when it does."""
        ...


@dataclass
class Rollout:
    """One deployment. `clock` gives seconds, `pause` waits so many."""

    place: Place
    tell: Tell = lambda _: None
    clock: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep

    def put(self, target: Target, limit_s: float, *, replace: bool = True) -> None:
        """Have the endpoint answer with the target. Candidate and replicas have `limit_s` seconds each.

        Raises:
            ConfigError: name or route belong to something else.
            DeployError: the version failed, or there was no room for it in `limit_s` seconds. What answered
                before goes on; an endpoint that was not there before is not there after.
        """
        before = check_place(target, self.place.applications(), replace=replace)
        if before is not None:
            self._prove(target, before, limit_s)
        deadline = self.clock() + limit_s
        try:
            self.place.run(target)
            self._wait(target, before, deadline)
        except BaseException as error:
            self._undo(target, before)
            if isinstance(error, DeployError) and before is not None:
                raise _kept(error, before) from error
            raise

    def _prove(self, target: Target, before: Running, limit_s: float) -> None:
        try:
            self.place.prove(target, limit_s, self.tell)
        except TutelageError as error:
            raise _kept(error, before) from error

    def _undo(self, target: Target, before: Running | None) -> None:
        """Leave what was there before, but nothing that another command has put there meanwhile."""
        now = self.place.applications().get(target.name)
        if now is not None and _another(now, target, before):
            return
        if before is None:
            self.place.delete(target.name)
        elif before.target is not None:
            self.place.run(before.target)

    def _wait(self, target: Target, before: Running | None, deadline: float) -> None:
        seen = ""
        while True:
            app = self.place.applications().get(target.name)
            state = app.state if app else "NOT_STARTED"
            if state != seen:
                self.tell(state.lower().replace("_", " "))
                seen = state
            if app is not None and _another(app, target, before):
                raise DeployError(
                    f"another command deploys '{target.name}' too, and came later",
                    fix="`tutelage endpoints ls` says what answers; deploy again if it is the wrong version",
                )
            differs = self.place.differs(target) if state == "RUNNING" else ""
            if state == "RUNNING" and not differs:
                return
            if app is not None and state in FAILED:
                raise DeployError(
                    f"no replica came up: {app.problem}", fix=app.fix or "put right what the replica says"
                )
            if self.clock() > deadline:
                raise self._late(target, state, differs or (app.problem if app else ""))
            self.pause(POLL_S)

    def _late(self, target: Target, state: str, problem: str) -> DeployError:
        if state == "RUNNING":
            return DeployError(
                f"replicas run, but from here {problem}",
                fix="serve.host is an address of the head node: set one that this machine reaches "
                "(0.0.0.0 for all), or run the command on the head",
            )
        return DeployError(
            f"the endpoint was not ready in time (it wants {target.cpus}): {problem or state}",
            fix="lower serve.cpus_per_replica or serve.replicas, or free CPUs (`ray status`)",
        )


def _another(app: Running, target: Target, before: Running | None) -> bool:
    """Whether an endpoint has a third target: what was there before may be shown for a moment longer."""
    return app.target not in (None, target, before.target if before else None)


def _kept(error: TutelageError, before: Running) -> DeployError:
    """The error, and what goes on answering."""
    version = f" with {before.target.ref}" if before.target else ""
    going = before.replicas > 0
    words = (
        f"'{before.name}' goes on answering{version}" if going else f"'{before.name}' did not answer before"
    )
    return DeployError(f"{error.problem}; {words}", fix=error.fix)
