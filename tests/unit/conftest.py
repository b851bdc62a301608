"""Unit tests know neither sockets nor clusters: opening either raises."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any, NoReturn

import pytest


class NotInAUnitTestError(AssertionError):
    """A unit test reached for the network or for Ray."""


def _refuse(what: str) -> Any:
    def refused(*_: object, **__: object) -> NoReturn:
        raise NotInAUnitTestError(f"{what} in a unit test; inject a twin, or mark the test `ray` or `e2e`")

    return refused


@pytest.fixture(autouse=True)
def _no_socket_and_no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "connect", _refuse("socket.connect"))
    monkeypatch.setattr(socket.socket, "connect_ex", _refuse("socket.connect_ex"))
    monkeypatch.setattr(socket.socket, "bind", _refuse("socket.bind"))
    monkeypatch.setattr(socket, "create_connection", _refuse("socket.create_connection"))
    # Not imported here: it takes a second. A test that imports it itself meets the sockets above.
    ray = sys.modules.get("ray")
    if ray is not None:
        monkeypatch.setattr(ray, "init", _refuse("ray.init"))


@pytest.fixture(scope="session")
def _homes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # A folder of its own: pytest numbers by reading all names, which 2,400 tests make slow.
    return tmp_path_factory.mktemp("homes")


@pytest.fixture(autouse=True)
def _own_home(monkeypatch: pytest.MonkeyPatch, _homes: Path) -> None:
    """$TUTELAGE_HOME is a folder of this test, and no TUTELAGE__ variable of the person leaks in."""
    for name in [name for name in os.environ if name.startswith("TUTELAGE")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TUTELAGE_HOME", tempfile.mkdtemp(dir=_homes))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Tensors of a few numbers: waiting for a second thread takes a hundred times as long as the sum."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tiny student with tokenised rows, made once: `tests.unit.training_samples.Tiny`."""
    from tests.unit.training_samples import make

    return make(tmp_path_factory.mktemp("tiny"))
