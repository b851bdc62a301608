"""What the stream does about replicas that are lost, late or wrong, and what it counts."""

from __future__ import annotations

import numpy as np
import pytest

from actors.stream import TeacherCounters
from tests.unit.stream_samples import FAULTS, batches, rig
from tutelage.errors import TeacherError
from tutelage.signals.exchange import Reply, Request, batch_digest

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_moves_the_batch_to_the_next_replica(kind: str) -> None:
    ready = rig(replicas=3, faults=[{0: kind}])
    ready.run([["a"], ["b"]])
    assert ready.flights[0].asked == [(0, ["a"]), (1, ["b"]), (1, ["a"])]
    assert ready.channels[0].counters.retries == 1


@pytest.mark.parametrize("retries", [0, 1, 4])
def test_when_the_retries_are_used_up_the_error_names_teacher_replicas_and_batch(retries: int) -> None:
    ready = rig(
        replicas=2,
        faults=[{n: FAULTS[n % len(FAULTS)] for n in range(9)}],
        retries=retries,
        pause=lambda _: None,
    )
    with pytest.raises(TeacherError) as caught:
        ready.run([["a", "b"]])
    problem = caught.value.problem
    (batch,) = batches([["a", "b"]])
    assert "teacher 't0'" in problem
    assert batch_digest(batch.digests).hex() in problem
    assert f"in {retries + 1} attempts" in problem
    assert "teacher-0: the process is gone" in problem
    if retries:
        assert "teacher-1: no answer within 120 s" in problem
    if retries == 4:
        assert "answers another batch" in problem
        assert "NaN or infinity" in problem
        assert "expected (2, 3)" in problem
    assert "stream.retries" in caught.value.fix
    assert len(ready.flights[0].asked) == retries + 1


def test_as_many_faults_as_retries_are_survived() -> None:
    ready = rig(faults=[{0: "lost", 1: "late", 2: "nan"}], retries=3, pause=lambda _: None)
    assert len(ready.run([["a"]])) == 1


def test_the_patience_is_counted_for_each_batch() -> None:
    ready = rig(faults=[{0: "lost", 2: "lost", 4: "lost"}], retries=1, window=1, pause=lambda _: None)
    assert len(ready.run([["a"], ["b"], ["c"]])) == 3


def test_a_single_replica_gets_time_to_restart_and_more_each_time() -> None:
    pauses: list[float] = []
    ready = rig(faults=[dict.fromkeys(range(6), "lost")], retries=6, pause=pauses.append)
    ready.run([["a"]])
    assert pauses == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


def test_several_replicas_are_all_tried_at_once_and_get_time_only_then() -> None:
    """A dead node takes all of them: going round without a pause would use up the retries at once."""
    pauses: list[float] = []
    ready = rig(replicas=2, faults=[dict.fromkeys(range(5), "lost")], retries=5, pause=pauses.append)
    ready.run([["a"]])
    assert [replica for replica, _ in ready.flights[0].asked] == [0, 1, 0, 1, 0, 1]
    assert pauses == [1.0, 2.0]


def test_the_deadline_of_the_config_reaches_the_replica() -> None:
    ready = rig(replicas=2, faults=[{0: "late"}], retries=0, deadline_s=2.5)
    with pytest.raises(TeacherError, match=r"no answer within 2\.5 s"):
        ready.run([["a"]])


# Counters


def test_bytes_and_calls_are_those_of_good_replies() -> None:
    ready = rig(replicas=2, faults=[{1: "nan"}], window=2)
    ready.run([["é", "bc"], ["def"]])
    counters = ready.channels[0].counters
    assert counters.calls == 2
    assert counters.examples == 3
    assert counters.retries == 1
    assert counters.bytes_sent == (2 + 2 + 16) + (3 + 16)
    assert counters.bytes_received == (2 * 3 * 4 + 16) + (1 * 3 * 4 + 16)
    assert counters.cached == 0


def test_the_total_over_workers_sums_counts_and_takes_the_median_of_all_times() -> None:
    request = Request(["a"], b"0" * 16)
    parts = []
    for times in ([0.1, 0.2], [0.3]):
        part = TeacherCounters(cached=5, retries=1)
        for seconds in times:
            part.add(request, Reply(b"0" * 16, np.zeros((1, 2), np.float32), "t", "t-0", seconds))
        parts.append(part)
    assert TeacherCounters.total(parts).to_json() == {
        "calls": 3,
        "examples": 3,
        "cached": 10,
        "bytes_sent": 51,
        "bytes_received": 72,
        "retries": 2,
        "p50_ms": pytest.approx(200.0),
    }
    assert parts[0].seconds == [0.1, 0.2]


def test_a_teacher_that_was_never_asked_counts_0() -> None:
    assert set(TeacherCounters().to_json().values()) == {0}


def test_the_times_of_the_last_thousand_calls_are_kept() -> None:
    counters = TeacherCounters()
    for n in range(1005):
        counters.add(Request([], b""), Reply(b"", np.zeros((0, 2), np.float32), "t", "t-0", float(n)))
    assert len(counters.seconds) == 1000
    assert counters.seconds[0] == 5.0
    assert counters.calls == 1005
