"""A fault that every replica would repeat ends at once, in the teacher's words; a lost process does not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.lean_trainer import certain
from actors.reasons import LASTING, lasting, named_reason, out_of_memory, passing
from actors.replica import ReplicaFailedError, failed
from actors.student import _failure
from tests.unit.stream_samples import rig
from tests.unit.test_channel_members import moving
from tutelage.errors import ConfigError, DataError, ModelError, RefusedError, TeacherError, TrainError

pytestmark = pytest.mark.unit


def test_what_the_teachers_code_says_of_the_question_is_told_at_once_in_its_own_words() -> None:
    """One call, no time, no replica started anew; the error names teacher, batch, words and fix."""
    ready, members = moving(1, faults=[{0: "refuses"}])
    with pytest.raises(TeacherError) as caught:
        ready.run([["a"]])
    problem = caught.value.problem
    assert "teacher 't0' cannot answer batch " in problem
    assert "teacher-0: ValueError: truncation length is not a multiple of 8" in problem
    assert "teachers.t0" in caught.value.fix
    assert (len(ready.flights[0].asked), members.losses) == (1, [])
    assert ready.clock.now() < 1


@pytest.mark.parametrize("kind", ["raises", "nan", "shape"])
def test_the_same_fault_from_a_second_replica_is_no_replicas_fault(kind: str) -> None:
    ready, members = moving(2, faults=[dict.fromkeys(range(9), kind)], retries=8)
    with pytest.raises(TeacherError, match=r"teacher-0: .*; teacher-1: "):
        ready.run([["a"]])
    assert (len(ready.flights[0].asked), members.losses) == (2, [])


def test_one_replica_that_repeats_itself_is_replaced_once_and_its_successor_believed() -> None:
    """A damaged process is told from a wrong question by another process: one respawn, not one a retry."""
    ready, members = moving(1, faults=[dict.fromkeys(range(9), "raises")], retries=8, backoff_s=0.1)
    ready.clock.plan(20, lambda: members.join(1))
    with pytest.raises(TeacherError, match="cannot answer"):
        ready.run([["a"]])
    assert [name for name, _ in members.losses] == ["teacher-0"]
    assert [replica for replica, _ in ready.flights[0].asked] == [0, 0, 1]


@pytest.mark.parametrize("kind", ["lost", "late", "digest"])
def test_processes_that_are_lost_in_the_same_way_prove_nothing(kind: str) -> None:
    """Two replicas of a dead node say the same words; the question is right, and is asked again."""
    ready = rig(replicas=2, faults=[{0: kind, 1: kind}], retries=3, backoff_s=0.1)
    assert len(ready.run([["a"]])) == 1


def test_with_degrade_a_question_that_no_replica_can_answer_costs_its_batch_alone() -> None:
    """The teacher is not left out: it answers the next question, and a note says what it could not."""
    ready = rig(on_loss="degrade", window=1, faults=[{1: "refuses"}])
    found = ready.run([[text] for text in "abc"])
    assert [packets[0] is None for _, packets in found] == [False, True, False]
    channel = ready.channels[0]
    assert (channel.counters.lost_batches, channel.counters.retries) == (1, 0)
    assert channel.notes[0].startswith("teacher 't0' cannot answer batch ")


@given(st.integers(1, 4), st.integers(0, 6), st.integers(0, 5), st.sampled_from(["refuses", "raises", "nan"]))
@settings(max_examples=60, deadline=None)
def test_no_number_of_replicas_and_retries_makes_a_lasting_fault_dear(
    replicas: int, retries: int, first: int, kind: str
) -> None:
    """However it is configured: at most one more question than there are replicas to compare, or retries."""
    faults = dict.fromkeys(range(first, 50), kind)
    ready = rig(replicas=replicas, retries=retries, window=1, faults=[faults], backoff_s=0.1)
    with pytest.raises(TeacherError, match="t0"):
        ready.run([[f"{n}"] for n in range(first + 1)])
    asked = len(ready.flights[0].asked) - first
    assert asked <= (1 if kind == "refuses" else min(2 if replicas > 1 else 9, retries + 1))


# What is told from what


@pytest.mark.parametrize("kind", LASTING)
def test_errors_about_what_was_asked_last_and_say_what_they_are(kind: type[Exception]) -> None:
    error = kind("no such thing")
    assert lasting(error)
    assert "no such thing" in named_reason(error)
    assert isinstance(error, ConfigError | DataError | ModelError) or kind.__name__ in named_reason(error)


@pytest.mark.parametrize(
    "error", [OSError("disk"), ConnectionResetError("gone"), TimeoutError(), MemoryError()]
)
def test_errors_about_a_place_pass(error: Exception) -> None:
    assert (lasting(error), passing(error)) == (False, True)


@pytest.mark.parametrize(
    "words",
    [
        "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried",
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    ],
)
def test_a_full_memory_passes_whichever_library_says_so(words: str) -> None:
    """torch has a type of its own for one of several: the others are known by their words."""
    error = RuntimeError(words)
    assert (lasting(error), passing(error), out_of_memory(error)) == (False, True, True)
    assert "lower train.batch_size" in _failure("d-1", error).fix


@pytest.mark.parametrize(
    ("status", "lasts"), [(400, True), (401, True), (404, True), (408, False), (429, False), (500, False)]
)
def test_a_server_that_refuses_the_question_refuses_it_again(status: int, lasts: bool) -> None:
    """And one that gives no answer gives none to its other clients, which proves nothing."""
    assert lasting(RefusedError("status", status=status)) is lasts
    assert passing(RefusedError("status", status=status)) is False
    assert passing(TeacherError("no answer in 3 attempts")) is True


def test_the_teachers_own_fix_is_the_fix() -> None:
    found = failed(ModelError("models/x: no head", fix="save it with its head"))
    assert (str(found), found.fix) == ("models/x: no head", "save it with its head")
    assert isinstance(found, ReplicaFailedError)
    assert found.lasting


def test_a_training_is_not_repeated_for_what_its_code_would_say_again() -> None:
    """A worker's KeyError ends the run; a worker that was lost, or ran out of connections, does not."""

    class GroupError(Exception):
        def __init__(self, **failures: Exception) -> None:
            self.worker_failures = dict(enumerate(failures.values()))

    assert isinstance(certain(GroupError(a=ConnectionError("peer"), b=KeyError("label"))), KeyError)
    assert certain(GroupError(a=ConnectionError("peer"), b=RuntimeError("gloo: connection closed"))) is None
    assert certain(TrainError("no workers at all")) is None
