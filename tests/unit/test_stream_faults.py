"""What the stream does about replicas that are lost, late or wrong, and what it counts."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest

from actors.counters import TeacherCounters
from actors.reasons import own_error, reason
from tests.unit.stream_samples import FAULTS, batches, request, rig
from tutelage.config.explain import JobError, Problem
from tutelage.errors import ModelError, TeacherError
from tutelage.signals.exchange import Reply, batch_digest
from tutelage.signals.packet import dense_packet

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_moves_the_batch_to_the_next_replica(kind: str) -> None:
    ready = rig(replicas=3, faults=[{0: kind}])
    ready.run([["a"], ["b"]])
    assert ready.flights[0].asked[:2] == [(0, ["a"]), (1, ["b"])]
    assert [texts for _, texts in ready.flights[0].asked[2:]] == [["a"]]
    assert ready.flights[0].asked[2][0] != 0
    assert ready.channels[0].counters.retries == 1


@pytest.mark.parametrize("retries", [0, 1, 6])
def test_when_the_retries_are_used_up_the_error_names_teacher_replicas_and_batch(retries: int) -> None:
    ready = rig(replicas=2, faults=[{n: FAULTS[n % len(FAULTS)] for n in range(9)}], retries=retries)
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
    if retries == 6:
        assert "answered with the digest of another batch" in problem
        assert "NaN" in problem
        assert "of shape (2, 2) instead of (2, 3)" in problem
        assert "no such row" in problem
    assert "stream.retries" in caught.value.fix
    assert len(ready.flights[0].asked) == retries + 1


def test_as_many_faults_as_retries_are_survived() -> None:
    ready = rig(faults=[{0: "lost", 1: "late", 2: "nan"}], retries=3)
    assert len(ready.run([["a"]])) == 1


def test_the_patience_is_counted_for_each_batch() -> None:
    ready = rig(faults=[{0: "lost", 2: "lost", 4: "lost"}], retries=1, window=1)
    assert len(ready.run([["a"], ["b"], ["c"]])) == 3


def test_a_single_replica_gets_time_and_more_each_round() -> None:
    """Pauses of 1, 2, 4, ... s up to backoff_max_s, beside 0.1 s of work each time."""
    ready = rig(faults=[dict.fromkeys(range(6), "lost")], retries=6, backoff_s=1, backoff_max_s=8)
    ready.run([["a"]])
    times = ready.flights[0].times
    pauses = [round(b - a - 0.1, 2) for a, b in itertools.pairwise(times)]
    assert pauses == [1, 2, 4, 8, 8, 8]


def test_several_replicas_are_all_tried_at_once_and_get_time_only_then() -> None:
    """A dead node takes all of them: going round without a pause would use up the retries at once."""
    ready = rig(replicas=2, faults=[dict.fromkeys(range(5), "lost")], retries=5, backoff_s=1)
    ready.run([["a"]])
    assert sorted(replica for replica, _ in ready.flights[0].asked[:2]) == [0, 1]
    times = ready.flights[0].times
    pauses = [round(b - a - 0.1, 2) for a, b in itertools.pairwise(times)]
    assert pauses == [0, 1, 0, 2, 0]


def test_a_deeper_batch_is_sent_again_while_an_earlier_one_is_waited_for() -> None:
    """The fault of the third batch is seen while the first works for 50 s, not when its own turn comes."""
    ready = rig(replicas=3, window=3, faults=[{2: "lost"}], slow={0: 50.0}, hedge_after=None)
    ready.run([["a"], ["b"], ["c"]])
    assert [texts for _, texts in ready.flights[0].asked] == [["a"], ["b"], ["c"], ["c"]]
    assert ready.flights[0].times[3] < 1


def test_the_deadline_bounds_each_attempt() -> None:
    """A question to a replica that never answers ends deadline_s after it was sent, not later."""
    ready = rig(replicas=2, faults=[{0: "late"}], retries=0, deadline_s=2.5)
    with pytest.raises(TeacherError, match=r"no answer within 2\.5 s"):
        ready.run([["a"]])
    assert ready.clock.now() == pytest.approx(2.5)


def test_a_replica_that_is_away_costs_one_retry_and_no_attempt() -> None:
    """Twenty answers of "restarting" within the deadline are no reason to give up."""
    ready = rig(faults=[dict.fromkeys(range(20), "away")], retries=0, backoff_s=1, backoff_max_s=2)
    assert len(ready.run([["a"]])) == 1
    assert ready.channels[0].counters.retries == 1


def test_the_deadline_bounds_the_time_that_a_replica_may_be_away() -> None:
    ready = rig(faults=[dict.fromkeys(range(99), "away")], retries=0, deadline_s=5)
    with pytest.raises(TeacherError, match="the actor is restarting"):
        ready.run([["a"]])
    assert 5 <= ready.clock.now() < 10


# Counters


def test_bytes_and_calls_are_those_of_good_replies() -> None:
    ready = rig(replicas=2, faults=[{1: "nan"}], window=2)
    ready.run([["é", "bc"], ["def"]])
    counters = ready.channels[0].counters
    assert (counters.calls, counters.examples, counters.positions, counters.retries) == (2, 3, 3, 1)
    assert counters.bytes_sent == (2 + 2 + 32) + (3 + 16)
    assert counters.bytes_received == (2 * 3 * 4 + 16) + (1 * 3 * 4 + 16)
    assert counters.cached == 0


def test_the_time_in_a_queue_is_told_from_the_time_at_work() -> None:
    """Three questions of 0.1 s to one replica: the second waits 0.1 s, the third 0.2 s."""
    ready = rig(window=3)
    ready.run([["a"], ["b"], ["c"]])
    counters = ready.channels[0].counters
    assert counters.seconds == [0.1, 0.1, 0.1]
    assert counters.queue_s == pytest.approx([0.0, 0.1, 0.2])
    assert counters.to_json()["queue_p50_ms"] == pytest.approx(100)
    assert counters.waited_s == pytest.approx(0.3)


def test_the_total_over_workers_sums_counts_and_takes_the_median_of_all_times() -> None:
    question = request("a")
    parts = []
    for times in ([0.1, 0.2], [0.3]):
        part = TeacherCounters(cached=5, retries=1)
        for seconds in times:
            packet = dense_packet(np.zeros((1, 2), np.float32))
            part.add(question, Reply(b"0" * 16, packet, "t", "t-0", seconds), seconds + 0.5)
        parts.append(part)
    assert TeacherCounters.total(parts).to_json() == {
        "calls": 3,
        "examples": 3,
        "positions": 3,
        "cached": 10,
        "bytes_sent": 51,
        "bytes_received": 72,
        "retries": 2,
        "hedges": 0,
        "lost_batches": 0,
        "worked_s": pytest.approx(0.6),
        "waited_s": 0.0,
        "p50_ms": pytest.approx(200.0),
        "queue_p50_ms": pytest.approx(500.0),
    }
    assert parts[0].seconds == [0.1, 0.2]


def test_a_teacher_that_was_never_asked_counts_0() -> None:
    assert set(TeacherCounters().to_json().values()) == {0}


def test_the_times_of_the_last_thousand_calls_are_kept() -> None:
    counters = TeacherCounters()
    for n in range(1005):
        packet = dense_packet(np.zeros((0, 2), np.float32))
        counters.add(request(), Reply(b"", packet, "t", "t-0", float(n)), float(n))
    assert len(counters.seconds) == len(counters.queue_s) == 1000
    assert counters.seconds[0] == 5.0
    assert counters.calls == 1005


# Errors on their way between processes


@pytest.mark.parametrize(
    "error",
    [
        ModelError("models/x: no weights", fix="save them"),
        JobError("job.yaml", [Problem("train.lr", "is 3", "job.yaml:4")]),
    ],
)
def test_errors_travel_between_processes(error: ModelError) -> None:
    """A pickled error keeps its class, problem, fix and everything else."""
    again = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes
    assert type(again) is type(error)
    assert (str(again), vars(again), again.args) == (str(error), vars(error), error.args)


def test_the_reason_is_the_problem_of_our_own_error() -> None:
    """However deep it stands below the errors of others; the fix is left out."""
    outer = RuntimeError("task failed")
    outer.__cause__ = ModelError("models/x: no\nweights", fix="save them")
    assert reason(outer) == "models/x: no weights"
    assert own_error(outer) is outer.__cause__
    assert own_error(RuntimeError("none")) is None


def test_the_reason_is_found_in_a_traceback_as_text() -> None:
    """The last exception of the text, without its fix; else the last line; else the class."""
    text = (
        "The actor died: Traceback\nOSError: first\nDuring handling\n"
        "tutelage.errors.ModelError: models/x: cannot\nbe loaded\n  fix: check the folder"
    )
    assert reason(RuntimeError(text)) == "models/x: cannot be loaded"
    assert reason(RuntimeError("The actor died\nworker exit code 9")) == "worker exit code 9"
    assert reason(RuntimeError()) == "RuntimeError"
