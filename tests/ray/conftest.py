"""One local Ray for all tests of this folder; each test leaves it as it found it.

`cluster` starts on first use. After each test its actors must be gone and its CPUs free again; what a
module's fixtures hold (an endpoint, say) counts for the module, not for the test. Leftovers are named,
killed, and fail the test.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from actors.session import Session, session
from tests.ray.leftovers import free_cpus, leftovers, living_actors
from tutelage.config.runtime import RayConfig

CPUS = 4


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """A local Ray with four CPUs (as many as it is told, not as many as there are)."""
    home = tmp_path_factory.mktemp("ray-home")
    # Train inside Tune needs the dashboard; a test of that takes its own cluster.
    config = RayConfig(num_cpus=CPUS, object_store_mb=500, dashboard="off")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        with session(config, home) as running:
            yield running


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> str:
    """A namespace of this test alone, for named actors (`.options(name=..., namespace=...)`)."""
    return f"{re.sub(r'[^a-z0-9]+', '-', request.node.name.lower())}-{uuid4().hex[:6]}"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """$TUTELAGE_HOME of this test."""
    monkeypatch.setenv("TUTELAGE_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture(scope="module", autouse=True)
def _module_leaves_nothing(request: pytest.FixtureRequest) -> Iterator[None]:
    # Asked for here, and not as an argument: a module that needs no cluster starts none.
    yield from _leaves_nothing(request)


@pytest.fixture(autouse=True)
def _test_leaves_nothing(request: pytest.FixtureRequest, _module_leaves_nothing: None) -> Iterator[None]:
    yield from _leaves_nothing(request)


def _leaves_nothing(request: pytest.FixtureRequest) -> Iterator[None]:
    if "cluster" not in request.fixturenames and "cluster" not in _fixtures_of_module(request):
        yield
        return
    request.getfixturevalue("cluster")
    before, cpus = living_actors(), free_cpus()
    yield
    problem = leftovers(before, cpus)
    assert not problem, problem


def _fixtures_of_module(request: pytest.FixtureRequest) -> set[str]:
    items = [item for item in request.session.items if getattr(item, "module", None) is request.module]
    return {name for item in items for name in getattr(item, "fixturenames", ())}
