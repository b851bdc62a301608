"""Trainings that wait in threads are ended before the session is."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from actors import student
from actors.board import NoBoard
from actors.lean_trainer import Ending
from tutelage.errors import TrainError

pytestmark = pytest.mark.unit


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    found: list[Any] = []
    monkeypatch.setattr(ray, "kill", found.append)
    return found


def test_all_controllers_are_killed_and_none_is_started_afterwards(killed: list[Any]) -> None:
    ending = Ending()
    assert [ending.controller(lambda n=n: n) for n in ("one", "two")] == ["one", "two"]
    assert killed == []
    ending.ask()
    assert killed == ["one", "two"]
    started: list[str] = []
    with pytest.raises(InterruptedError, match="stopped"):
        ending.controller(lambda: started.append("three"))
    assert started == []


def test_a_controller_that_is_gone_does_not_save_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Any] = []

    def kill(handle: str) -> None:
        found.append(handle)
        raise ray.exceptions.RayActorError

    monkeypatch.setattr(ray, "kill", kill)
    ending = Ending()
    for name in ("one", "two"):
        ending.controller(lambda name=name: name)
    ending.ask()
    assert found == ["one", "two"]


def test_a_training_that_fails_ends_the_others_before_its_error_is_told(
    killed: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of three fails while one runs and one waits for room: no thread is left, the third never begins."""
    running, begun = threading.Event(), []

    def fit(work: Any, members: Any, board: Any, ending: Ending, patience_s: float) -> dict[str, Any]:
        begun.append(work.run)
        if work.run == "bad":
            assert running.wait(10)
            raise TrainError("bad: no", fix="none")
        gone = threading.Event()
        monkeypatch.setattr(ray, "kill", lambda handle: handle.set())
        ending.controller(lambda: gone)
        running.set()
        assert gone.wait(10)
        raise ray.exceptions.RayActorError

    monkeypatch.setattr(student, "fit", fit)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0})
    monkeypatch.setattr(student, "_cpus", lambda work: 1.0)
    works: Any = {name: SimpleNamespace(run=name) for name in ("good", "bad", "late")}
    with pytest.raises(TrainError, match="bad: no"):
        student.fit_all(works, {}, NoBoard())
    assert sorted(begun) == ["bad", "good"]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fit-")]
