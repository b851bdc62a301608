"""Trainings that wait in threads are ended before the session is."""

from __future__ import annotations

from typing import Any

import pytest
import ray

from actors.lean_trainer import Ending

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
