"""The stream: every batch once, in order, with the same numbers, whatever replicas do.

Shapes: B batch, C classes, K teachers.
"""

from __future__ import annotations

from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.stream import SignalStream
from tests.unit.stream_samples import CLASSES, FAULTS, Texts, batches, rig, rule, watched
from tutelage.config.runtime import StreamConfig
from tutelage.signals.store import MemoryStore

pytestmark = pytest.mark.unit

SIZES = st.lists(st.integers(1, 4), max_size=12)


def parts_of(sizes: list[int]) -> list[list[str]]:
    numbers = count()
    return [[f"text {next(numbers)}" for _ in range(size)] for size in sizes]


def expected(parts: list[list[str]], teachers: int) -> list[np.ndarray]:
    return [
        np.array([[rule(text, k) for text in part] for k in range(teachers)], np.float32) for part in parts
    ]


@given(
    sizes=SIZES,
    window=st.integers(1, 6),
    teachers=st.integers(1, 3),
    replicas=st.integers(1, 4),
    faults=st.dictionaries(st.integers(0, 15), st.sampled_from(FAULTS), max_size=6),
)
@settings(max_examples=150, deadline=None)
def test_each_batch_comes_once_in_order_with_the_right_logits(
    sizes: list[int], window: int, teachers: int, replicas: int, faults: dict[int, str]
) -> None:
    """For any window, any fleet, and any calls that are lost, late or answered wrong."""
    parts = parts_of(sizes)
    ready = rig(
        teachers=teachers,
        replicas=replicas,
        faults=[faults] * teachers,
        window=window,
        retries=len(faults),
        pause=lambda _: None,
    )
    found = ready.run(parts)
    assert [texts for texts, _ in found] == parts
    for (_, logits_KBC), right_KBC in zip(found, expected(parts, teachers), strict=True):
        assert logits_KBC is not None
        assert logits_KBC.tobytes() == right_KBC.tobytes()
    for channel, flight in zip(ready.channels, ready.flights, strict=True):
        failed = sum(number < len(flight.asked) for number in faults)
        assert channel.counters.retries == failed
        assert channel.counters.calls == len(parts) == len(flight.asked) - failed
        assert channel.counters.examples == sum(sizes)
        assert flight.now == 0
        assert flight.most <= window


@pytest.mark.parametrize("window", [1, 2, 5])
def test_at_most_window_batches_are_read_ahead_of_the_student(window: int) -> None:
    ready = rig(window=window)
    seen: list[int] = []
    stream = ready.stream.pair(watched(batches(parts_of([2] * 12)), seen))
    for taken in range(12):
        assert len(seen) <= taken + window
        next(stream)
        assert len(seen) == min(12, taken + window)
        assert ready.flights[0].now == len(seen) - taken - 1
    assert ready.flights[0].most == window


def test_the_least_busy_replica_is_asked() -> None:
    ready = rig(replicas=3, window=3)
    ready.run(parts_of([1] * 9))
    assert [replica for replica, _ in ready.flights[0].asked] == [0, 1, 2] * 3


def test_without_teachers_batches_pass_through_and_no_text_is_read() -> None:
    given_ = batches(parts_of([2, 1, 3]))
    stream = SignalStream([], {}, StreamConfig(window=2))
    found = list(stream.pair(given_))
    assert [batch for batch, _ in found] == given_
    assert [logits for _, logits in found] == [None] * 3
    source = given_[0]._examples
    assert isinstance(source, Texts)
    assert source.asked == 0


def test_no_batches_give_nothing() -> None:
    assert rig().run([]) == []


# The store


def test_a_warm_store_asks_nobody_and_gives_the_same_numbers() -> None:
    parts = parts_of([3, 2, 3])
    cold = rig(teachers=2, window=2)
    first = cold.run(parts)
    warm = rig(teachers=2, window=2, stores=cold.stores)
    again = warm.run(parts)
    assert [flight.asked for flight in warm.flights] == [[], []]
    assert [channel.counters.cached for channel in warm.channels] == [8, 8]
    assert [channel.counters.calls for channel in warm.channels] == [0, 0]
    for (_, cold_KBC), (_, warm_KBC) in zip(first, again, strict=True):
        assert cold_KBC is not None
        assert warm_KBC is not None
        assert cold_KBC.tobytes() == warm_KBC.tobytes()
        assert cold_KBC.dtype == warm_KBC.dtype == np.float32


def test_a_text_that_comes_twice_has_the_same_signal_in_a_cold_and_in_a_warm_run() -> None:
    """Teachers answer a text a little differently beside other texts; the first answer is the signal."""
    answers = count()
    parts = [["same", "a"], ["b", "same"], ["c"], ["same", "same"]]
    cold = rig(window=4, rules=[lambda _: [float(next(answers))] * CLASSES])
    both = (cold, rig(window=1, stores=cold.stores))
    runs = [[logits for _, logits in ready.run(parts)] for ready in both]
    for cold_KBC, warm_KBC in zip(*runs, strict=True):
        assert cold_KBC is not None
        assert warm_KBC is not None
        assert cold_KBC.tolist() == warm_KBC.tolist()
    assert runs[0][0][0, 0].tolist() == runs[0][1][0, 1].tolist() == runs[0][3][0, 0].tolist()


def test_only_the_teacher_whose_signals_are_missing_is_asked() -> None:
    parts = parts_of([2, 2])
    known = rig(teachers=1)
    known.run(parts)
    both = rig(teachers=2, stores=[known.stores[0], MemoryStore()])
    found = both.run(parts)
    assert [len(flight.asked) for flight in both.flights] == [0, 2]
    for (_, logits_KBC), right_KBC in zip(found, expected(parts, 2), strict=True):
        assert logits_KBC is not None
        assert logits_KBC.tobytes() == right_KBC.tobytes()


def test_a_batch_is_asked_whole_when_one_of_its_examples_is_missing() -> None:
    ready = rig()
    ready.run([["a", "b"]])
    ready.run([["b", "c"]])
    assert [texts for _, texts in ready.flights[0].asked] == [["a", "b"], ["b", "c"]]
    assert ready.channels[0].counters.cached == 0
    assert len(ready.stores[0]) == 3


def test_a_faulty_reply_never_reaches_the_store() -> None:
    ready = rig(replicas=2, faults=[{0: "nan", 1: "digest"}], retries=2, pause=lambda _: None)
    ready.run([["a", "b"]])
    kept = ready.stores[0].get([digest for batch in batches([["a", "b"]]) for digest in batch.digests])
    assert kept is not None
    assert kept.tolist() == np.array([rule("a"), rule("b")], np.float32).tolist()
