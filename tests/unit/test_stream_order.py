"""The stream: every batch once, in order, with the same numbers, whatever replicas do.

Shapes: N examples.
"""

from __future__ import annotations

from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.stream import SignalStream
from tests.unit.stream_samples import (
    CLASSES,
    FAULTS,
    Rig,
    Texts,
    ask,
    batches,
    digest,
    logits,
    rig,
    rule,
    watched,
)
from tutelage.config.runtime import StreamConfig
from tutelage.signals.store import MemoryStore

pytestmark = pytest.mark.unit

SIZES = st.lists(st.integers(1, 4), max_size=12)


def parts_of(sizes: list[int]) -> list[list[str]]:
    numbers = count()
    return [[f"text {next(numbers)}" for _ in range(size)] for size in sizes]


def right(part: list[str], teacher: int) -> bytes:
    return np.array([rule(text, teacher) for text in part], np.float32).tobytes()


def accidents(faults: dict[int, str]) -> dict[int, str]:
    """Without what would be said twice in the same words: that is a fault of the question."""
    seen: set[str] = set()
    kept = {}
    for call, kind in sorted(faults.items()):
        if kind in ("lost", "late", "digest") or kind not in seen:
            kept[call] = kind
        seen.add(kind)
    return kept


def heard(ready: Rig, parts: list[list[str]]) -> list[list[bytes]]:
    """The bytes of every batch's logits, by teacher; the batches are those given, in order."""
    found = ready.run(parts)
    assert [texts for texts, _ in found] == parts
    return [[logits(packet).tobytes() for packet in packets] for _, packets in found]


@given(
    sizes=SIZES,
    window=st.integers(1, 6),
    teachers=st.integers(1, 3),
    replicas=st.integers(1, 4),
    faults=st.dictionaries(st.integers(0, 15), st.sampled_from(FAULTS), max_size=6).map(accidents),
    slow=st.dictionaries(st.integers(0, 15), st.sampled_from([0.0, 3.0, 40.0]), max_size=4),
    batch_tokens=st.sampled_from([None, 4, 9]),
)
@settings(max_examples=200, deadline=None)
def test_each_batch_comes_once_in_order_with_the_right_logits(
    sizes: list[int],
    window: int,
    teachers: int,
    replicas: int,
    faults: dict[int, str],
    slow: dict[int, float],
    batch_tokens: int | None,
) -> None:
    """For any window, fleet, cutting, and any calls that are lost, late, slow or answered wrong."""
    parts = parts_of(sizes)
    ready = rig(
        teachers=teachers,
        replicas=replicas,
        faults=[faults] * teachers,
        slow=slow,
        batch_tokens=batch_tokens,
        window=window,
        retries=len(faults),
        deadline_s=1000,
    )
    expected = [[right(part, k) for k in range(teachers)] for part in parts]
    assert heard(ready, parts) == expected
    for k, (channel, flight) in enumerate(zip(ready.channels, ready.flights, strict=True)):
        assert channel.counters.examples == sum(sizes)
        asked = sum(len(texts) for _, texts in flight.asked)
        failed = sum(len(flight.asked[n][1]) for n in faults if n < len(flight.asked))
        assert asked - failed >= sum(sizes)
        if not channel.counters.hedges:
            assert asked - failed == sum(sizes)
            assert channel.counters.retries == sum(n < len(flight.asked) for n in faults)
        assert len(ready.stores[k]) == sum(sizes)


@pytest.mark.parametrize("window", [1, 2, 5])
def test_at_most_window_batches_are_read_ahead_of_the_student(window: int) -> None:
    ready = rig(window=window)
    seen: list[int] = []
    stream = ready.stream.pair(watched(batches(parts_of([2] * 12)), seen))
    for taken in range(12):
        assert len(seen) <= taken + window
        next(stream)
        assert len(seen) == min(12, taken + window)
        assert len(ready.flights[0].asked) == len(seen)
    assert ready.flights[0].most == window


def test_parts_of_one_batch_are_no_longer_held_than_the_batch() -> None:
    """Memory is bounded by the window: after each batch no answer of it is kept by the channel."""
    ready = rig(window=2, batch_tokens=4, replicas=2)
    channel = ready.channels[0]
    for _ in ready.stream.pair(batches(parts_of([4] * 20))):
        assert len(channel._open) <= 4
    assert channel._open == []
    assert channel._routing._dropped == []


def test_the_replica_with_the_least_outstanding_tokens_is_asked() -> None:
    """Two short questions weigh less than a long one."""
    ready = rig(replicas=2, window=4)
    ready.run([["a much longer text than the others, of forty characters"], ["b"], ["c"], ["d"]])
    assert [replica for replica, _ in ready.flights[0].asked] == [0, 1, 1, 1]


def test_equal_questions_go_round() -> None:
    ready = rig(replicas=3, window=3)
    ready.run(parts_of([1] * 9))
    assert [replica for replica, _ in ready.flights[0].asked] == [0, 1, 2] * 3


def test_without_teachers_batches_pass_through_and_no_text_is_read() -> None:
    given_ = batches(parts_of([2, 1, 3]))
    stream = SignalStream([], {}, StreamConfig(window=2), ask)
    found = list(stream.pair(given_))
    assert [batch for batch, _ in found] == given_
    assert [packets for _, packets in found] == [[]] * 3
    source = given_[0]._examples
    assert isinstance(source, Texts)
    assert source.asked == 0


def test_no_batches_give_nothing() -> None:
    assert rig().run([]) == []


@pytest.mark.parametrize("batch_tokens", [None, 6])
def test_one_to_four_replicas_give_the_same_bits(batch_tokens: int | None) -> None:
    """Also of a teacher whose answer depends on what stands beside a text, as that of a real model may."""
    parts = parts_of([5, 1, 4, 7, 2])
    found = []
    for replicas in (1, 2, 3, 4):
        ready = rig(replicas=replicas, batch_tokens=batch_tokens, window=3)
        teacher = ready.channels[0]._members.current().replicas[0]._teacher  # type: ignore[attr-defined]
        score = teacher.score
        seen: list[list[str]] = []

        def beside(request, score=score, seen=seen):  # type: ignore[no-untyped-def]
            seen.append(request.texts)
            return score(request)

        teacher.score = beside
        found.append((heard(ready, parts), sorted(seen)))
    assert all(one == found[0] for one in found)


# The store


def test_a_warm_store_asks_nobody_and_gives_the_same_numbers() -> None:
    parts = parts_of([3, 2, 3])
    cold = rig(teachers=2, window=2)
    first = heard(cold, parts)
    warm = rig(teachers=2, window=2, stores=cold.stores)
    assert heard(warm, parts) == first
    assert [flight.asked for flight in warm.flights] == [[], []]
    assert [channel.counters.cached for channel in warm.channels] == [8, 8]
    assert [channel.counters.calls for channel in warm.channels] == [0, 0]


def test_a_text_that_comes_twice_has_the_same_signal_in_a_cold_and_in_a_warm_run() -> None:
    """Teachers answer a text a little differently beside other texts; the first answer is the signal."""
    answers = count()
    parts = [["same", "a"], ["b", "same"], ["c"], ["same", "d"]]
    cold = rig(window=4, rules=[lambda _: [float(next(answers))] * CLASSES])
    first = heard(cold, parts)
    assert heard(rig(window=1, stores=cold.stores), parts) == first
    row = 4 * CLASSES
    assert first[0][0][:row] == first[1][0][row:] == first[3][0][:row]


def test_only_the_teacher_whose_signals_are_missing_is_asked() -> None:
    parts = parts_of([2, 2])
    known = rig(teachers=1)
    known.run(parts)
    both = rig(teachers=2, stores=[known.stores[0], MemoryStore()])
    assert heard(both, parts) == [[right(part, k) for k in range(2)] for part in parts]
    assert [len(flight.asked) for flight in both.flights] == [0, 2]


def test_only_the_examples_that_are_neither_stored_nor_on_their_way_are_asked_for() -> None:
    ready = rig(window=3)
    ready.run([["a", "b"]])
    parts = [["b", "c"], ["c", "d"]]
    assert heard(ready, parts) == [[right(part, 0)] for part in parts]
    assert [texts for _, texts in ready.flights[0].asked] == [["a", "b"], ["c"], ["d"]]
    assert ready.channels[0].counters.cached == 2
    assert ready.channels[0].counters.examples == len(ready.stores[0]) == 4


def test_a_faulty_reply_never_reaches_the_store() -> None:
    ready = rig(replicas=2, faults=[{0: "nan", 1: "digest", 2: "inf"}], retries=3)
    ready.run([["a", "b"]])
    kept = ready.stores[0].get([digest("a"), digest("b")])
    assert logits(kept).tobytes() == right(["a", "b"], 0)
