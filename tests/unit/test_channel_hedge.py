"""A slow replica is hedged: another is asked too, the first good reply counts, the other is dropped."""

from __future__ import annotations

import pytest

from tests.unit.stream_samples import Rig, logits, request, rig, rule
from tutelage.errors import TeacherError

pytestmark = pytest.mark.unit

WARM = [[f"warm {n}"] for n in range(6)]
"""Enough replies of 0.1 s for a median."""


def warmed(**config: object) -> Rig:
    """A stream that knows that a reply takes 0.1 s; call 6 is the next."""
    ready = rig(window=1, **{"replicas": 2, "hedge_after": 4, "hedge_min_s": 0.2, **config})  # type: ignore[arg-type]
    ready.run(WARM)
    return ready


def test_the_second_replica_wins_with_the_same_numbers() -> None:
    """The slow call works for 60 s; the batch is there after 4 medians and one call."""
    ready = warmed(slow={6: 60.0})
    begin = ready.clock.now()
    ((_, packets),) = ready.run([["a"]])
    assert ready.clock.now() - begin == pytest.approx(0.4 + 0.1, abs=0.01)
    assert logits(packets[0]).tolist() == [pytest.approx(rule("a"))]
    assert [replica for replica, texts in ready.flights[0].asked if texts == ["a"]] == [0, 1]
    assert ready.flights[0].cancelled == 1
    counters = ready.channels[0].counters
    assert (counters.hedges, counters.retries, counters.calls, counters.examples) == (1, 0, 7, 7)


def test_the_dropped_reply_is_never_seen() -> None:
    """It arrives later, is wrong, and is neither counted nor stored nor held against anybody."""
    ready = warmed(slow={6: 5.0}, faults=[{6: "nan"}])
    ready.run([["a"]])
    ready.clock.advance(10)
    ready.run([[f"later {n}"] for n in range(4)])
    counters = ready.channels[0].counters
    assert (counters.hedges, counters.retries, counters.calls, counters.examples) == (1, 0, 11, 11)
    assert len(ready.stores[0]) == 11
    assert ready.members[0].losses == []  # type: ignore[attr-defined]
    assert ready.channels[0]._routing._dropped == []
    assert set(ready.channels[0]._routing._weights.values()) == {0}


def test_the_first_replica_may_still_win() -> None:
    """It answers 0.05 s after the second was asked, which then is the one that is dropped."""
    ready = warmed(slow={6: 0.45, 7: 3.0})
    begin = ready.clock.now()
    ready.run([["a"]])
    assert ready.clock.now() - begin == pytest.approx(0.45, abs=0.01)
    assert ready.channels[0].counters.hedges == 1
    assert ready.channels[0].counters.calls == 7


def test_a_replica_that_works_on_a_dropped_question_is_still_taken_for_busy() -> None:
    ready = warmed(slow={6: 60.0})
    ready.run([["a"], ["b"], ["c"], ["d"]])
    after = [replica for replica, texts in ready.flights[0].asked if texts[0] in "bcd"]
    assert after == [1, 1, 1]


def test_a_hedge_that_fails_leaves_the_first_to_answer() -> None:
    ready = warmed(slow={6: 2.0}, faults=[{7: "lost"}], retries=0)
    ready.run([["a"]])
    assert ready.channels[0].counters.retries == 0
    assert ready.channels[0].counters.calls == 7


def test_when_both_fail_the_part_is_asked_once_more() -> None:
    ready = warmed(slow={6: 2.0, 7: 1.0}, faults=[{6: "lost", 7: "nan"}], retries=2)
    ((_, packets),) = ready.run([["a"]])
    assert logits(packets[0]).tolist() == [pytest.approx(rule("a"))]
    assert ready.channels[0].counters.retries == 1
    with pytest.raises(TeacherError, match="in 2 attempts"):
        warmed(slow={6: 2.0, 7: 1.0}, faults=[{6: "lost", 7: "nan"}], retries=1).run([["a"]])


@pytest.mark.parametrize(
    ("config", "what"),
    [
        ({"hedge_after": None}, "it is switched off"),
        ({"replicas": 1}, "there is no other replica"),
        ({"hedge_min_s": 10.0}, "the wait is below hedge_min_s"),
    ],
)
def test_nobody_else_is_asked(config: dict[str, object], what: str) -> None:
    ready = warmed(slow={6: 3.0}, **config)
    ready.run([["a"]])
    assert ready.channels[0].counters.hedges == 0, what
    assert len(ready.flights[0].asked) == 7


def test_nobody_is_hedged_before_five_replies_say_what_is_slow() -> None:
    ready = rig(replicas=2, window=1, slow={4: 30.0}, hedge_min_s=0.2)
    ready.run(WARM[:5])
    assert ready.channels[0].counters.hedges == 0


def test_a_fleet_that_is_slow_as_a_whole_is_not_asked_twice() -> None:
    """While every replica has as much to do, asking twice would only make the queue longer."""
    ready = warmed(slow=dict.fromkeys(range(6, 8), 20.0), hedge_min_s=0.2)
    channel, begin = ready.channels[0], ready.clock.now()
    first, second = channel.ask(request("a")), channel.ask(request("b"))
    assert channel.take(first) is not None
    assert channel.take(second) is not None
    assert all(time >= begin + 20 for time in ready.flights[0].times[8:])
