"""A channel with replicas that join, leave, hang and lie; a teacher done without; the output layer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from actors.channel import TeacherChannel
from actors.members import FixedMembers, Load, Roster
from actors.parts import cut
from actors.replica import Replica
from tests.unit.stream_samples import SPEC, FakeReplica, Rig, logits, request, rig, rule
from tutelage.config.runtime import StreamConfig
from tutelage.errors import TeacherError

pytestmark = pytest.mark.unit


class Moving:
    """Members that a test changes; a lost replica leaves at once."""

    batch_tokens: int | None = None

    def __init__(self, everybody: list[FakeReplica], first: int) -> None:
        self.everybody = everybody
        self.roster = Roster(tuple(everybody[:first]))
        self.losses: list[tuple[str, str]] = []
        self.loads: list[Load] = []

    def current(self) -> Roster:
        return self.roster

    def lost(self, replica: Replica, why: str) -> None:
        self.losses.append((replica.name, why))
        rest = tuple(other for other in self.roster.replicas if other is not replica)
        self.roster = replace(self.roster, replicas=rest, said=why)

    def report(self, load: Load) -> None:
        self.loads.append(load)

    def join(self, *indices: int) -> None:
        self.roster = replace(self.roster, replicas=tuple(self.everybody[n] for n in indices))


def moving(first: int, replicas: int = 3, **config: object) -> tuple[Rig, Moving]:
    """So many of the replicas are there at first."""
    ready = rig(replicas=replicas, members=lambda fleet: Moving(fleet, first), **config)  # type: ignore[arg-type]
    members = ready.members[0]
    assert isinstance(members, Moving)
    return ready, members


def test_a_replica_that_joins_is_asked_at_once_and_one_that_left_no_more() -> None:
    ready, members = moving(1, window=2)
    channel = ready.channels[0]
    first = channel.ask(request("a"))
    members.join(0, 1)
    second = channel.ask(request("b"))
    members.join(1, 2)
    third = channel.ask(request("c"))
    assert [replica for replica, _ in ready.flights[0].asked] == [0, 1, 2]
    for question, text in ((first, "a"), (second, "b"), (third, "c")):
        assert logits(channel.take(question)).tolist() == [pytest.approx(rule(text))]
    assert channel.counters.retries == 0


def test_a_lost_replica_is_reported_and_its_questions_go_to_the_one_that_joins() -> None:
    ready, members = moving(1, faults=[{0: "lost", 1: "lost"}], window=2)
    channel = ready.channels[0]
    questions = [channel.ask(request(text)) for text in "ab"]
    ready.clock.plan(7, lambda: members.join(1))
    assert [logits(channel.take(q)).tolist() for q in questions] == [[pytest.approx(rule(t))] for t in "ab"]
    assert set(members.losses) == {("teacher-0", "the process is gone")}
    assert 7 < ready.clock.now() < 7.5


def test_a_hung_replica_is_reported_within_the_deadline_and_the_numbers_are_the_same() -> None:
    """It has answered nothing for deadline_s: all that it was asked goes elsewhere."""
    ready, members = moving(2, hangs=[0], deadline_s=30, window=4, hedge_after=None)
    found = ready.run([[text] for text in "abcd"])
    assert [logits(packets[0]).tolist() for _, packets in found] == [[pytest.approx(rule(t))] for t in "abcd"]
    assert members.losses[0] == ("teacher-0", "no answer within 30 s")
    assert 30 <= ready.clock.now() < 31
    assert {name for name, _ in members.losses} == {"teacher-0"}


def test_a_late_answer_of_a_replica_that_works_is_no_reason_to_replace_it() -> None:
    """Twelve questions of 4 s wait in one queue; the last ones are given up, the replica is not."""
    ready, members = moving(1, window=12, deadline_s=30, slow=dict.fromkeys(range(12), 4.0), hedge_after=None)
    channel = ready.channels[0]
    questions = [channel.ask(request(f"{n}")) for n in range(12)]
    members.join(0, 1)
    assert all(channel.take(question) is not None for question in questions)
    assert channel.counters.retries > 0
    assert members.losses == []


@pytest.mark.parametrize("kind", ["nan", "digest", "shape", "raises"])
def test_a_replica_that_answers_wrong_twice_is_reported(kind: str) -> None:
    ready, members = moving(1, faults=[{0: kind, 1: kind}], window=2, backoff_s=0.1)
    ready.clock.plan(1, lambda: members.join(1))
    ready.run([["a"], ["b"]])
    assert [name for name, _ in members.losses] == ["teacher-0"]


def test_a_replica_that_answers_well_in_between_is_kept() -> None:
    ready, members = moving(2, faults=[{0: "nan", 3: "nan"}], window=1)
    ready.run([[text] for text in "abcd"])
    assert members.losses == []
    assert ready.channels[0].counters.retries == 2


def test_without_replicas_the_error_says_so_after_start_s() -> None:
    ready, members = moving(0, start_s=40)
    members.roster = replace(members.roster, said="teacher-0: killed")
    with pytest.raises(TeacherError, match=r"had no replica for 40 s \(stream.start_s\); teacher-0: killed"):
        ready.run([["a"]])
    assert ready.clock.now() == pytest.approx(40, abs=0.2)


def test_a_teacher_that_can_never_load_is_not_waited_for() -> None:
    ready, members = moving(0)
    members.roster = Roster(broken="models/x: no weights")
    with pytest.raises(TeacherError, match=r"teacher 't0' gave no usable reply.*models/x: no weights"):
        ready.run([["a"]])
    assert ready.clock.now() < 1


def test_an_empty_list_of_replicas_is_a_teacher_that_cannot_be_asked() -> None:
    channel = TeacherChannel("t", [], SPEC, StreamConfig())
    with pytest.raises(TeacherError, match="it has no replicas"):
        channel.take(channel.ask(request("a")))


# Going on without a teacher


def test_degrade_goes_on_without_the_teacher_and_takes_it_back() -> None:
    """The batch whose retries are used up and those after it have no signal, until a new replica joins."""
    ready, members = moving(1, on_loss="degrade", retries=0, window=1, faults=[{1: "lost"}])
    channel = ready.channels[0]

    def heard(text: str) -> bool:
        return channel.take(channel.ask(request(text))) is not None

    assert [heard(text) for text in "abcd"] == [True, False, False, False]
    assert len(ready.flights[0].asked) == 2
    members.join(2)
    assert [heard(text) for text in "ef"] == [True, True]
    assert channel.counters.lost_batches == 3
    assert len(channel.notes) == 2
    assert "teacher 't0' is left out" in channel.notes[0]
    assert "teacher-0: the process is gone" in channel.notes[0]
    assert channel.notes[1] == "teacher 't0' is back"


def test_a_teacher_that_is_left_out_costs_no_waiting() -> None:
    ready, _ = moving(1, on_loss="degrade", retries=0, window=1, faults=[{0: "lost"}])
    ready.run([[f"{n}"] for n in range(50)])
    assert ready.channels[0].counters.lost_batches == 50
    assert ready.clock.now() < 1


def test_replicas_that_stay_are_tried_again_after_a_while() -> None:
    """Fixed members cannot say that they are healthy; one question in backoff_max_s finds out."""
    ready = rig(on_loss="degrade", retries=0, window=1, faults=[{0: "nan", 1: "nan"}], backoff_max_s=30)
    channel = ready.channels[0]
    heard = []
    for n in range(4):
        heard.append(channel.take(channel.ask(request(f"{n}"))) is not None)
        ready.clock.advance(31)
    assert heard == [False, False, True, True]


def test_with_two_teachers_only_the_lost_one_is_none() -> None:
    ready = rig(teachers=2, faults=[{0: "lost"}], on_loss="degrade", retries=0, window=1)
    found = ready.run([["a"], ["b"]])
    assert [[packet is None for packet in packets] for _, packets in found] == [[True, False]] * 2


def test_deeper_batches_on_their_way_are_heard() -> None:
    """Only what had no answer under way is given up with the first."""
    ready = rig(replicas=2, faults=[{0: "lost"}], on_loss="degrade", retries=0, window=3)
    found = ready.run([["a"], ["b"], ["c"]])
    assert [packets[0] is None for _, packets in found] == [True, False, False]


# Parts


def test_parts_are_of_about_equal_weight_and_in_order() -> None:
    whole = request(*["x" * n for n in (40, 4, 4, 4, 40, 8, 8, 30)])
    parts = cut(whole, 12)
    assert [text for part in parts for text in part.texts] == whole.texts
    assert [part.weight for part in parts] == [12, 9, 12, 8, 9]
    assert [digest for part in parts for digest in part.examples] == whole.examples


@pytest.mark.parametrize("tokens", [1, 2, 3, 7, 20, 1000, None])
def test_no_example_is_lost_by_cutting(tokens: int | None) -> None:
    rng = np.random.default_rng(3)
    for size in (0, 1, 2, 5, 33):
        whole = request(*["y" * int(n) for n in rng.integers(0, 90, size)])
        parts = cut(whole, tokens)
        assert [text for part in parts for text in part.texts] == whole.texts
        if tokens is not None and size:
            assert len(parts) <= -(-whole.weight // tokens)
            assert max(part.weight for part in parts) < tokens + max(whole.weights) + 1


def test_parts_go_to_different_replicas_and_come_back_as_one() -> None:
    ready = rig(replicas=3, batch_tokens=5)
    texts = ["one", "two", "three", "four", "five", "six"]
    ((_, packets),) = ready.run([texts])
    assert [replica for replica, _ in ready.flights[0].asked] == [0, 1, 2]
    assert logits(packets[0]).tolist() == [pytest.approx(rule(text)) for text in texts]
    assert ready.channels[0].counters.calls == 3


# The output layer


def test_the_output_layer_is_asked_by_the_rules_of_a_question() -> None:
    ready = rig(replicas=2, faults=[{0: "lost", 1: "nan"}], retries=2)
    head_VH = ready.channels[0].head()
    assert head_VH.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert ready.channels[0].counters.retries == 2
    assert ready.channels[0].counters.calls == 0


@pytest.mark.parametrize("on_loss", ["fail", "degrade"])
def test_an_output_layer_that_cannot_be_had_is_an_error(on_loss: str) -> None:
    ready = rig(faults=[dict.fromkeys(range(3), "nan")], retries=1, on_loss=on_loss)
    with pytest.raises(TeacherError, match=r"its output layer in 2 attempts.*NaN"):
        ready.channels[0].head()


# What the supervisor and a person hear


def test_the_load_says_how_long_questions_wait_and_how_many_replicas_work() -> None:
    """Eight questions of 1 s each at a time to one replica: it always works, and each waits about 7 s."""
    ready = rig(window=8, slow=dict.fromkeys(range(60), 1.0), hedge_after=None)
    ready.run([[f"{n}"] for n in range(60)])
    members = ready.members[0]
    assert isinstance(members, FixedMembers)
    (load,) = members.loads
    assert load.working == pytest.approx(1, abs=0.05)
    assert load.wait_s == pytest.approx(7, abs=1)


def test_a_student_that_is_slower_than_its_teacher_reports_no_waiting() -> None:
    ready = rig(window=2)
    for _ in ready.stream.pair(_spaced(ready, 40)):
        ready.clock.advance(2)
    (load,) = ready.members[0].loads  # type: ignore[attr-defined]
    assert load.wait_s < 0.1
    assert load.working < 0.1


def test_a_fleet_that_answers_nothing_reports_its_waiting() -> None:
    ready = rig(hangs=[0], deadline_s=20, retries=0, hedge_after=None)
    with pytest.raises(TeacherError):
        ready.run([["a"]])
    (load,) = ready.members[0].loads  # type: ignore[attr-defined]
    assert load.wait_s > 15


def test_the_view_is_made_of_plain_numbers() -> None:
    ready = rig(replicas=2, window=2)
    ready.run([["a"], ["b", "c"]])
    channel = ready.channels[0]
    channel.ask(request("d"))
    view = channel.view()
    assert all(isinstance(value, int | float) for value in view.values())
    assert (view["queue_depth"], view["replicas"], view["calls"]) == (1, 2, 2)
    assert view["bytes_position"] == pytest.approx((3 * 12 + 2 * 16) / 3)
    assert view["replies_s"] == pytest.approx(0.2)


def _spaced(ready: Rig, number: int):  # type: ignore[no-untyped-def]
    from tests.unit.stream_samples import batches

    return batches([[f"{n}"] for n in range(number)])
