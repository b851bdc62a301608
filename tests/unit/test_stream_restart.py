"""A replica that is being restarted is waited for; why a remote process failed is told in its own words."""

from __future__ import annotations

import pickle

import pytest

from actors.reasons import own_error, reason
from tests.unit.stream_samples import rig
from tutelage.config.explain import JobError, Problem
from tutelage.errors import ModelError, TeacherError

pytestmark = pytest.mark.unit


def test_loading_longer_than_the_retries_last_is_survived() -> None:
    """Twenty answers of "restarting" are twenty pauses, and count as one retry."""
    pauses: list[float] = []
    ready = rig(faults=[dict.fromkeys(range(20), "away")], retries=1, pause=pauses.append)
    assert len(ready.run([["a"]])) == 1
    assert pauses == [1.0] * 20
    assert ready.channels[0].counters.retries == 1


def test_the_deadline_bounds_the_waiting() -> None:
    """A replica that never comes back costs `deadline_s`, then the retries, then the run."""
    pauses: list[float] = []
    ready = rig(faults=[dict.fromkeys(range(99), "away")], retries=1, deadline_s=5, pause=pauses.append)
    with pytest.raises(TeacherError, match="the actor is restarting"):
        ready.run([["a"]])
    assert sum(pauses) == 5 + 1.0


def test_another_replica_answers_without_a_pause() -> None:
    """While one replica restarts, the next is asked at once, also where no retry is allowed."""
    ready = rig(replicas=2, faults=[{0: "away"}], retries=0)
    assert len(ready.run([["a"]])) == 1
    assert [replica for replica, _ in ready.flights[0].asked] == [0, 1]


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
