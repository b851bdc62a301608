"""The supervisor keeps between least and most replicas: it starts, replaces, adds and drains, by a clock.

Ray's part (processes, resources, owners that die) is in tests/ray/test_fleet.py.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest

from actors.channel import TeacherChannel
from actors.clock import ManualClock
from actors.members import Load, Roster
from actors.replica import Replica
from actors.spawner import BrokenError, ManualBody, ManualSpawner
from actors.supervisor import Bounds, Supervisor
from actors.teacher import ScriptedTeacher
from tests.unit.stream_samples import SPEC, FakeReplica, Flight, logits, request, rule
from tutelage.config.runtime import StreamConfig

pytestmark = pytest.mark.unit


class Rig:
    """A supervisor of one teacher whose tick comes every 0.2 s of a manual clock."""

    def __init__(
        self,
        least: int = 1,
        most: int = 1,
        *,
        room: int = 99,
        load_s: float = 1.0,
        make: Callable[[str], Any] = str,
        error: Exception | None = None,
        **config: Any,
    ) -> None:
        self.clock = ManualClock()
        self.spawner = ManualSpawner(self.clock, make, load_s=load_s, room=room)
        self.spawner.error = error
        self.supervisor = Supervisor(
            {"t": Bounds(least, most)}, self.spawner, StreamConfig(**config), self.clock
        )
        self._tick()

    def _tick(self) -> None:
        self.supervisor.tick()
        self.clock.plan(0.2, self._tick)

    @property
    def bodies(self) -> list[ManualBody]:
        return self.spawner.bodies

    @property
    def names(self) -> list[str]:
        """Replicas that may be asked."""
        return [name for name, _ in self.supervisor.roster("t")[0]]

    @property
    def state(self) -> dict[str, int]:
        return self.supervisor.state()["t"]

    def load(self, wait_s: float, working: float, seconds: float, source: str = "w") -> None:
        """A worker that reports the same each second for so long."""
        for _ in range(round(seconds)):
            self.supervisor.report("t", Load(source, wait_s, working))
            self.clock.advance(1)


def test_all_replicas_are_started_at_once() -> None:
    rig = Rig(least=3, most=5, load_s=4.0)
    rig.clock.advance(3.5)
    assert (len(rig.bodies), rig.names, rig.supervisor.settled()) == (3, [], False)
    rig.clock.advance(1)
    assert rig.names == ["t-0", "t-1", "t-2"]
    assert rig.supervisor.settled()


def test_the_version_changes_with_the_roster_and_only_then() -> None:
    rig = Rig(least=2, most=2)
    rig.clock.advance(2)
    before = rig.supervisor.version("t")
    rig.clock.advance(100)
    assert rig.supervisor.version("t") == before
    rig.supervisor.lost("t", "t-0", "gone")
    assert rig.supervisor.version("t") != before


def test_a_replica_that_dies_unasked_is_found_and_replaced_at_once() -> None:
    rig = Rig(least=2, most=2)
    rig.clock.advance(10)
    rig.bodies[0].die("killed by signal 9")
    rig.clock.advance(3)
    assert rig.names == ["t-1", "t-2"]
    assert rig.state["respawns"] == 1
    assert rig.supervisor.roster("t")[1]["said"] == "t-0: killed by signal 9"


def test_a_hung_replica_is_ended_when_a_worker_says_so() -> None:
    rig = Rig(load_s=2.0)
    rig.clock.advance(5)
    rig.bodies[0].hung = True
    rig.supervisor.lost("t", "t-0", "no answer within 120 s")
    assert rig.bodies[0].ended_at == rig.clock.now()
    rig.clock.advance(3)
    assert rig.names == ["t-1"]


def test_what_a_worker_says_of_a_replica_that_is_no_more_changes_nothing() -> None:
    rig = Rig()
    rig.clock.advance(2)
    for _ in range(3):
        rig.supervisor.lost("t", "t-0", "gone")
    rig.clock.advance(5)
    assert (len(rig.bodies), rig.names, rig.state["respawns"]) == (2, ["t-1"], 1)


def test_the_pauses_between_starts_double_up_to_the_longest() -> None:
    """A replica that dies as soon as it is ready: none, 1, 2, 4, 8, 8 s, beside 1 s of loading."""
    rig = Rig(backoff_s=1, backoff_max_s=8)
    while len(rig.bodies) < 7:
        rig.clock.advance(0.1)
        for name in rig.names:
            rig.supervisor.lost("t", name, "gone")
    started = [body.started_at for body in rig.bodies]
    pauses = [b - a - 1 for a, b in itertools.pairwise(started)]
    assert pauses == [pytest.approx(wanted, abs=0.5) for wanted in (0, 1, 2, 4, 8, 8)]


def test_after_a_healthy_time_the_pauses_start_anew() -> None:
    rig = Rig(backoff_s=4, backoff_max_s=20)
    for healthy_s, starts in ((3, 2), (3, 2)):
        rig.clock.advance(healthy_s)
        rig.supervisor.lost("t", rig.names[0], "gone")
        rig.clock.advance(1)
        assert len(rig.bodies) == starts
    rig.clock.advance(10)
    rig.clock.advance(25)
    rig.supervisor.lost("t", rig.names[0], "gone")
    rig.clock.advance(1)
    assert len(rig.bodies) == 4


def test_a_model_that_cannot_be_loaded_says_why_and_a_replica_that_loads_after_all_heals_it() -> None:
    rig = Rig(error=BrokenError("models/x: no weights"))
    rig.clock.advance(1.5)
    assert rig.supervisor.broken() == "t-0: models/x: no weights"
    assert rig.supervisor.settled()
    assert rig.supervisor.roster("t")[1]["broken"] == "t-0: models/x: no weights"
    rig.spawner.error = None
    rig.clock.advance(60)
    assert rig.supervisor.broken() == ""
    assert len(rig.names) == 1


def test_an_error_that_may_pass_is_tried_three_times_before_it_counts() -> None:
    rig = Rig(error=OSError("connection reset"))
    rig.clock.advance(2)
    assert rig.supervisor.broken() == ""
    rig.clock.advance(3)
    assert rig.supervisor.broken() == "t-2: connection reset"


def test_a_replica_that_never_loads_is_ended_and_what_is_free_is_said() -> None:
    rig = Rig(load_s=1e9, start_s=50)
    rig.clock.advance(49)
    assert rig.supervisor.broken() == ""
    rig.clock.advance(2)
    assert rig.bodies[0].ended_at == pytest.approx(50, abs=0.3)
    assert "not loaded within 50 s (stream.start_s); 99 replicas fit" in rig.supervisor.broken()


# Scaling


def test_it_grows_while_questions_wait_and_shrinks_when_they_do_not() -> None:
    """Up one at a time to the most; down one at a time to the least after idle_s; the oldest stays."""
    rig = Rig(least=1, most=3, target_wait_s=0.5, idle_s=20)
    rig.load(2.0, 1.0, 2)
    assert len(rig.bodies) == 1
    rig.load(2.0, 1.0, 4)
    assert rig.names == ["t-0", "t-1"]
    rig.load(2.0, 2.0, 30)
    assert rig.names == ["t-0", "t-1", "t-2"]
    assert rig.state["added"] == 2
    rig.clock.advance(19)
    assert len(rig.names) == 3
    rig.clock.advance(12)
    assert rig.names == ["t-0", "t-1"]
    rig.clock.advance(25)
    assert rig.names == ["t-0"]
    rig.clock.advance(200)
    assert (rig.names, rig.state["removed"]) == (["t-0"], 2)


def test_a_short_wait_adds_nobody() -> None:
    rig = Rig(least=1, most=3, target_wait_s=0.5)
    for _ in range(5):
        rig.load(9.0, 1.0, 2)
        rig.load(0.0, 1.0, 2)
    assert len(rig.bodies) == 1


def test_the_worker_that_waits_longest_counts() -> None:
    """Several workers and trainings share a fleet."""
    rig = Rig(least=1, most=2, target_wait_s=0.5)
    for _ in range(6):
        rig.supervisor.report("t", Load("idle one", 0.0, 0.0))
        rig.load(3.0, 1.0, 1, source="waiting one")
    assert len(rig.bodies) == 2


def test_no_replica_is_added_where_there_is_no_room() -> None:
    """Ray would queue it, and it would take what a training asks for next."""
    rig = Rig(least=1, most=4, room=2)
    rig.load(5.0, 1.0, 60)
    assert (len(rig.bodies), rig.state["added"]) == (2, 1)


def test_a_replica_that_is_needed_stays() -> None:
    """Two replicas at work for 1.8 of 2: one alone could not do it."""
    rig = Rig(least=1, most=2, idle_s=10)
    rig.load(3.0, 1.0, 8)
    assert len(rig.names) == 2
    rig.load(0.1, 1.8, 60)
    assert len(rig.names) == 2
    rig.load(0.1, 0.5, 15)
    assert len(rig.names) == 1


def test_a_replica_is_drained_before_it_is_ended() -> None:
    """It is asked no more at once; it ends when it has answered what it was asked, 30 s later."""
    rig = Rig(least=1, most=2, idle_s=10)
    rig.load(3.0, 1.0, 8)
    rig.bodies[1].work_s = 30.0
    while len(rig.names) == 2:
        rig.clock.advance(0.2)
    left = rig.clock.now()
    assert rig.state["draining"] == 1
    rig.clock.advance(25)
    assert rig.bodies[1].ended_at is None
    rig.clock.advance(10)
    assert rig.bodies[1].ended_at is not None
    assert rig.bodies[1].ended_at - left >= 30
    assert rig.state["respawns"] == 0


def test_a_draining_replica_that_dies_is_not_replaced() -> None:
    rig = Rig(least=1, most=2, idle_s=10)
    rig.load(3.0, 1.0, 8)
    while len(rig.names) == 2:
        rig.clock.advance(0.2)
    rig.supervisor.lost("t", "t-1", "killed")
    rig.clock.advance(20)
    assert (rig.names, len(rig.bodies), rig.state["respawns"]) == (["t-0"], 2, 0)


def test_at_the_end_all_are_ended_and_none_is_started() -> None:
    rig = Rig(least=2, most=4)
    rig.clock.advance(2)
    rig.supervisor.end()
    rig.load(9.0, 2.0, 60)
    assert all(body.ended_at == 2 for body in rig.bodies)
    assert len(rig.bodies) == 2


# Together with a channel


class Supervised:
    """Members over a supervisor of the same process."""

    batch_tokens: int | None = None

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._gone: set[Replica] = set()

    def current(self) -> Roster:
        named, facts = self._supervisor.roster("t")
        return Roster(tuple(replica for _, replica in named), **facts)

    def lost(self, replica: Replica, why: str) -> None:
        self._supervisor.lost("t", replica.name, why)

    def report(self, load: Load) -> None:
        self._supervisor.report("t", load)


def student(rig: Rig, texts: int, window: int, config: StreamConfig) -> TeacherChannel:
    """Asks `window` texts ahead and checks each answer."""
    channel = TeacherChannel("t", Supervised(rig.supervisor), SPEC, config, rig.clock)
    ahead = []
    for n in range(texts + window):
        if n < texts:
            ahead.append((n, channel.ask(request(f"text {n}"))))
        if n >= window:
            asked, question = ahead.pop(0)
            found = logits(channel.take(question)).tolist()
            assert found == [pytest.approx(rule(f"text {asked}"))]
    return channel


def supervised(
    least: int, most: int, work_s: float, **config: Any
) -> tuple[Rig, Flight, dict[str, FakeReplica]]:
    made: dict[str, FakeReplica] = {}
    flights: list[Flight] = []

    def make(name: str) -> FakeReplica:
        number = len(made)
        replica = FakeReplica(number, ScriptedTeacher(rule, "t"), flights[0], work_s)
        replica.name = name
        made[name] = replica
        return replica

    # The spawner needs the flight, and the flight the clock of the rig.
    flights.append(Flight(ManualClock()))
    rig = Rig(least, most, make=make, **config)
    flights[0].clock = rig.clock
    return rig, flights[0], made


def test_a_slow_teacher_gets_more_replicas_while_it_is_asked() -> None:
    """A student that asks as fast as it is answered: 1 replica at first, 4 in the end, and so faster."""
    config = {"target_wait_s": 0.5, "idle_s": 30.0, "hedge_after": None}
    rig, flight, _ = supervised(1, 4, 0.5, **config)
    student(rig, 300, 8, StreamConfig(**config))
    assert rig.state["added"] == 3
    assert len(rig.names) == 4
    assert rig.clock.now() < 0.5 * 300 / 2.5
    per_replica = [sum(index == n for index, _ in flight.asked) for n in range(4)]
    assert min(per_replica) > 40


def test_a_hung_replica_is_replaced_and_every_answer_comes() -> None:
    """deadline_s after it was first asked, a new one is started."""
    config = {"deadline_s": 20.0, "hedge_after": None}
    rig, _, made = supervised(2, 2, 0.5, **config)
    rig.clock.advance(2)
    made["t-0"].hangs = True
    channel = student(rig, 60, 4, StreamConfig(**config))
    assert rig.bodies[0].ended_at == pytest.approx(22, abs=1.5)
    assert rig.names == ["t-1", "t-2"]
    assert channel.counters.examples == 60


@pytest.mark.parametrize("seed", range(5))
def test_random_kills_change_no_answer(seed: int) -> None:
    """A replica dies about every 4 s for 200 questions; each question has its answer, once."""
    rng = random.Random(seed)
    config = {"backoff_s": 0.5, "backoff_max_s": 2.0, "retries": 8}
    rig, flight, made = supervised(2, 3, 0.3, **config)
    kills = [0]

    def kill() -> None:
        living = [body for body in rig.bodies if body.ended_at is None and body.ready.done()]
        if living:
            body = rng.choice(living)
            made[body.name].hangs = True
            body.die()
            kills[0] += 1
        rig.clock.plan(rng.uniform(1, 7), kill)

    rig.clock.plan(3, kill)
    channel = student(rig, 200, 6, StreamConfig(**config))
    assert kills[0] >= 5
    assert channel.counters.examples == 200
    assert len(flight.asked) >= 200
