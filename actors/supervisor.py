"""Starts, counts, replaces and ends the replicas of every teacher, between their least and greatest number.

Plain: processes are started by a spawner, time is a clock's, and `tick` is called again and again. The Ray
actor around it is in `actors/fleet.py`, the twin of the spawner for tests in `actors/spawner.py`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

from actors.clock import Clock
from actors.members import Load
from actors.spawner import Body, BrokenError, Spawner
from tutelage.config.runtime import StreamConfig

LOG = logging.getLogger(__name__)
SUSTAIN_S = 3.0
"""Questions must wait too long for so long before a replica is added."""
FRESH_S = 5.0
"""Reports of workers that say nothing for longer count no more."""
PING_S = 1.0
"""Time between two looks at whether a replica lives."""
DRAIN_S = 2.0
"""How long workers may take to hear that a replica is no longer to be asked."""
ROOM = 0.7
"""A replica can be done without when the others would be at work for less than this share of the time."""


@dataclass(frozen=True)
class Bounds:
    """How many replicas a teacher may have."""

    least: int
    most: int


@dataclass(eq=False)
class _Member:
    name: str
    body: Body
    since: float
    """When it was started; once ready, when it became so; once draining, when that began."""
    state: str = "starting"
    ping: Any = None
    pinged: float = 0.0


@dataclass
class _Crew:
    """The replicas of one teacher."""

    bounds: Bounds
    wanted: int
    members: list[_Member] = field(default_factory=list)
    started: int = 0
    respawns: int = 0
    strikes: int = 0
    """Losses without a healthy time in between."""
    start_at: float = 0.0
    """No replica is started before."""
    loads: dict[str, tuple[float, Load]] = field(default_factory=dict)
    waiting_since: float | None = None
    idle_since: float | None = None
    version: int = 0
    broken: str = ""
    said: str = ""
    events: dict[str, int] = field(default_factory=lambda: {"added": 0, "removed": 0})

    def having(self, *states: str) -> list[_Member]:
        return [member for member in self.members if member.state in states]


class Supervisor:
    """Every change of who may be asked raises the teacher's version."""

    def __init__(
        self, bounds: dict[str, Bounds], spawner: Spawner, config: StreamConfig, clock: Clock
    ) -> None:
        self._spawner = spawner
        self._config = config
        self._clock = clock
        self._crews = {name: _Crew(bound, bound.least) for name, bound in bounds.items()}

    # What workers and the driver see and say

    def version(self, teacher: str) -> int:
        """Changes with the roster."""
        return self._crews[teacher].version

    def roster(self, teacher: str) -> tuple[list[tuple[str, Any]], dict[str, Any]]:
        """Name and handle of each replica that may be asked, and the other fields of a Roster."""
        crew = self._crews[teacher]
        named = [(member.name, member.body.handle) for member in crew.having("ready")]
        return named, {
            "starting": len(crew.having("starting")) or int(not named and not crew.broken),
            "respawns": crew.respawns,
            "broken": crew.broken if not named else "",
            "said": crew.said,
        }

    def lost(self, teacher: str, name: str, why: str) -> None:
        """Somebody found this replica gone, hung or wrong: it is ended and replaced."""
        crew = self._crews[teacher]
        for member in crew.members:
            if member.name == name:
                self._replace(crew, member, f"{name}: {why}")

    def report(self, teacher: str, load: Load) -> None:
        """A worker says how busy it keeps the teacher."""
        self._crews[teacher].loads[load.source] = (self._clock.now(), load)

    def cards(self, teacher: str) -> list[dict[str, str]]:
        """What each replica that may be asked says of itself."""
        return [member.body.card() for member in self._crews[teacher].having("ready")]

    def settled(self) -> bool:
        """Each teacher has its least number of replicas, or cannot have any."""
        return all(
            crew.broken or len(crew.having("ready")) >= crew.bounds.least for crew in self._crews.values()
        )

    def broken(self) -> str:
        """Why a teacher cannot load; empty when none is known to be so."""
        return next((crew.broken for crew in self._crews.values() if crew.broken), "")

    def state(self) -> dict[str, dict[str, int]]:
        """Numbers for a person: replicas in each state, and what happened to them."""
        return {
            teacher: {
                "replicas": len(crew.having("ready")),
                "starting": len(crew.having("starting")),
                "draining": len(crew.having("draining")),
                "respawns": crew.respawns,
                **crew.events,
            }
            for teacher, crew in self._crews.items()
        }

    def end(self) -> None:
        """End all replicas; none is started any more."""
        for crew in self._crews.values():
            for member in crew.members:
                member.body.end()
            crew.members, crew.wanted = [], 0
            crew.bounds = Bounds(0, 0)

    # What happens by itself

    def tick(self) -> None:
        """Look at every replica; start, add and end what must be."""
        now = self._clock.now()
        for teacher, crew in self._crews.items():
            for member in list(crew.members):
                self._look(crew, member, now)
            self._scale(teacher, crew, now)
            self._fill(teacher, crew, now)

    def _look(self, crew: _Crew, member: _Member, now: float) -> None:
        if member.state == "starting":
            self._started(crew, member, now)
            return
        if member.ping is None:
            if member.state == "draining" and now - member.since < DRAIN_S:
                return
            if now - member.pinged >= PING_S:
                member.ping, member.pinged = member.body.ping(), now
            return
        if not member.ping.done():
            return
        error = member.ping.exception()
        member.ping = None
        if member.state == "draining":
            # What was asked of it before has been answered by now, or never will be.
            if error is not None or now - member.since >= DRAIN_S:
                member.body.end()
                crew.members.remove(member)
        elif error is not None:
            self._replace(crew, member, f"{member.name}: {member.body.why(error)}")
        elif now - member.since >= self._config.backoff_max_s:
            crew.strikes = 0

    def _started(self, crew: _Crew, member: _Member, now: float) -> None:
        ready = member.body.ready
        if ready.done() and ready.exception() is None:
            member.state, member.since, member.pinged = "ready", now, now
            crew.broken = ""
            crew.version += 1
        elif ready.done():
            error = ready.exception()
            why = f"{member.name}: {member.body.why(error)}"
            # What says itself that it cannot load says the same the next time.
            final = isinstance(error, BrokenError) or crew.strikes >= 2
            self._replace(crew, member, why)
            crew.broken = why if final and not crew.having("ready") else ""
        elif now - member.since >= self._config.start_s:
            room = self._spawner.room_text()
            why = f"{member.name}: not loaded within {self._config.start_s:g} s (stream.start_s); {room}"
            self._replace(crew, member, why)
            crew.broken = why if not crew.having("ready") else ""

    def _replace(self, crew: _Crew, member: _Member, why: str) -> None:
        """End it at once; its successor is started after a pause that grows with the losses."""
        member.body.end()
        crew.members.remove(member)
        crew.version += 1
        if member.state == "draining":
            return
        crew.said = why
        LOG.warning("a replica is replaced: %s", why)
        crew.strikes += 1
        crew.respawns += 1
        if crew.strikes > 1:
            pause_s = min(self._config.backoff_max_s, self._config.backoff_s * 2.0 ** (crew.strikes - 2))
            crew.start_at = max(crew.start_at, self._clock.now() + pause_s)

    def _fill(self, teacher: str, crew: _Crew, now: float) -> None:
        """Start what is missing, all at once."""
        missing = crew.wanted - len(crew.having("starting", "ready"))
        if missing <= 0 or now < crew.start_at:
            return
        for _ in range(missing):
            name = f"{teacher}-{crew.started}"
            crew.started += 1
            crew.members.append(_Member(name, self._spawner.start(teacher, name), now))

    def _scale(self, teacher: str, crew: _Crew, now: float) -> None:
        """One replica more while students wait, one less when nobody would miss it."""
        crew.loads = {key: kept for key, kept in crew.loads.items() if now - kept[0] <= FRESH_S}
        loads = [load for _, load in crew.loads.values()]
        waits = max((load.wait_s for load in loads), default=0.0) > self._config.target_wait_s
        crew.waiting_since = (now if crew.waiting_since is None else crew.waiting_since) if waits else None
        steady = len(crew.having("ready")) == crew.wanted
        if crew.waiting_since is not None and now - crew.waiting_since >= SUSTAIN_S and steady:
            if crew.wanted < crew.bounds.most and self._spawner.room(teacher):
                crew.wanted += 1
                crew.events["added"] += 1
            crew.waiting_since = now
        busy = sum(load.working for load in loads)
        spare = crew.wanted > crew.bounds.least and not waits and busy <= ROOM * (crew.wanted - 1)
        crew.idle_since = (now if crew.idle_since is None else crew.idle_since) if spare else None
        if crew.idle_since is not None and now - crew.idle_since >= self._config.idle_s:
            self._shrink(crew, now)

    def _shrink(self, crew: _Crew, now: float) -> None:
        """The newest replica is asked no more, and ended when it has answered what it was asked."""
        crew.wanted -= 1
        crew.idle_since = None
        crew.events["removed"] += 1
        found = crew.having("starting") or crew.having("ready")
        if len(crew.having("starting", "ready")) <= crew.wanted:
            return
        member = found[-1]
        if member.state == "starting":
            member.body.end()
            crew.members.remove(member)
            return
        member.state, member.since, member.ping = "draining", now, None
        crew.version += 1
