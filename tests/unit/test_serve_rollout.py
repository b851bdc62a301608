"""Deploying in memory: what answers goes on answering until its successor has proved itself."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_apps.rollout import Rollout
from serve_apps.targets import Running
from tests.unit.memory_serve import Clock, MemoryServe, serving, target
from tutelage.errors import ConfigError, DeployError, ModelError

pytestmark = pytest.mark.unit

OLD, NEW = target(version="old"), target(version="new")
OTHER = serving(target("shop", version="other"))
FOREIGN = Running("jobs", "/jobs", "RUNNING", ours=False)


def place(**more: object) -> MemoryServe:
    """Three applications run: the endpoint, another one, and somebody else's."""
    return MemoryServe({"films": serving(OLD), "shop": OTHER, "jobs": FOREIGN}, **more)  # type: ignore[arg-type]


def put(serve: MemoryServe, new: object = NEW, told: list[str] | None = None, **more: bool) -> None:
    clock = Clock()
    tell = (told if told is not None else []).append
    Rollout(serve, tell, clock, clock.pause).put(new, 10, **more)  # type: ignore[arg-type]


def test_a_version_proves_itself_before_serve_hears_of_it() -> None:
    """First the candidate, then the replicas; what is waited for is told."""
    serve, told = place(becomes={"new": ["DEPLOYING", "DEPLOYING", "RUNNING"]}), []
    put(serve, told=told)
    assert serve.calls == ["prove new", "run new"]
    assert serve.apps["films"].target == NEW
    assert told == ["waiting for 1 CPU", "deploying", "running"]


@pytest.mark.parametrize(
    "error",
    [
        DeployError("m:new was still waiting for 1 CPU after 10 s", fix="free it"),
        ModelError("probe 'row 1' scores nan", fix="free it"),
    ],
)
def test_a_candidate_that_fails_changes_nothing(error: ModelError | DeployError) -> None:
    """Serve is told nothing; exit code 1, its reason, and what goes on."""
    serve = place(proving=error)
    before = dict(serve.apps)
    with pytest.raises(DeployError) as caught:
        put(serve)
    assert caught.value.exit_code == 1
    assert caught.value.problem == f"{error.problem}; 'films' goes on answering with m:old"
    assert caught.value.fix == "free it"
    assert (serve.calls, serve.apps) == (["prove new"], before)


@pytest.mark.parametrize(
    ("states", "says"),
    [
        (["DEPLOYING", "DEPLOY_FAILED"], "no replica came up: no node is like this"),
        (["UNHEALTHY"], "no replica came up"),
        (["DEPLOYING"], r"not ready in time \(it wants 1 x 1 CPU\): no node is like this"),
    ],
)
def test_replicas_that_do_not_come_up_give_the_old_target_back(states: list[str], says: str) -> None:
    """Serve keeps the old replicas while it starts new ones; it is told to want the old again."""
    serve = place(becomes={"new": states}, problem="no node is like this")
    with pytest.raises(DeployError, match=rf"{says}.*goes on answering with m:old"):
        put(serve)
    assert serve.calls == ["prove new", "run new", "run old"]
    assert serve.apps["films"].target == OLD


def test_a_proxy_that_does_not_follow_gives_the_old_target_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Running is not answering."""
    serve = place()
    monkeypatch.setattr(serve, "differs", lambda target: "http://h:1/films does not answer")
    with pytest.raises(DeployError, match="replicas run, but from here http://h:1/films does not answer"):
        put(serve)
    assert serve.calls == ["prove new", "run new", "run old"]


@pytest.mark.parametrize("before", [{}, {"films": serving(OLD)}], ids=["new", "replaced"])
def test_what_another_command_deployed_meanwhile_is_left(before: dict[str, Running]) -> None:
    """Neither taken down by the clean-up of a new endpoint, nor undone by that of a replacement."""
    later = target(version="later")
    serve = MemoryServe(before, becomes={"new": ["DEPLOYING"]})
    looks = count()

    def other() -> None:
        if next(looks) == 3:
            serve.apps["films"] = serving(later)

    serve.on_look = other
    with pytest.raises(DeployError, match="another command deploys 'films' too"):
        put(serve)
    assert serve.apps["films"].target == later


def test_ctrl_c_gives_the_old_target_back() -> None:
    """A command that is stopped leaves what it found."""
    serve = place(becomes={"new": ["DEPLOYING"]})

    def stop() -> None:
        if "run new" in serve.calls:
            serve.on_look = lambda: None
            raise KeyboardInterrupt

    serve.on_look = stop
    with pytest.raises(KeyboardInterrupt):
        put(serve)
    assert serve.apps["films"].target == OLD


def test_an_endpoint_of_unknown_target_is_not_removed() -> None:
    """Of another release: nothing to tell Serve again, and nothing of it is deleted."""
    serve = place(becomes={"new": ["DEPLOY_FAILED"]})
    serve.apps["films"] = replace(serve.apps["films"], target=None)
    with pytest.raises(DeployError, match=r"'films' goes on answering\n"):
        put(serve)
    assert serve.calls == ["prove new", "run new"]


def test_a_new_endpoint_is_proved_by_its_replica_and_gone_when_it_fails() -> None:
    """Nothing answers yet, so no candidate is needed; a failure takes down what it put up, and no more."""
    serve = place(becomes={"new": ["DEPLOY_FAILED"]}, problem="ModelError: broken")
    others = dict(serve.apps)
    with pytest.raises(DeployError, match=r"no replica came up: ModelError: broken\n"):
        put(serve, target("books"))
    assert serve.calls == ["run new", "delete books"]
    assert serve.apps == others


@pytest.mark.parametrize(
    ("new", "says"),
    [
        (target("jobs"), "'jobs' is a Serve application that tutelage did not make"),
        (target("books", route="/shop"), "route '/shop' belongs to 'shop'"),
        (target("films", route="/jobs"), "route '/jobs' belongs to 'jobs'"),
        (target("a#b", route="/a"), "endpoint name 'a#b' is not allowed"),
    ],
)
def test_what_belongs_to_others_is_refused_before_anything_happens(new: object, says: str) -> None:
    """Name and route: no candidate, no word to Serve."""
    serve = place()
    with pytest.raises(ConfigError, match=says) as caught:
        put(serve, new)
    assert "--" in caught.value.fix
    assert serve.calls == []


def test_who_must_not_replace_does_not() -> None:
    """A quickstart's endpoint is its own."""
    serve = place()
    with pytest.raises(ConfigError, match="there is an endpoint 'films' already"):
        put(serve, replace=False)
    assert serve.calls == []


STATES = st.lists(
    st.sampled_from(["DEPLOYING", "RUNNING", "UNHEALTHY", "DEPLOY_FAILED"]), min_size=1, max_size=5
)


@given(STATES, st.booleans(), st.sampled_from(["films", "books"]))
def test_a_failure_leaves_everything_as_it_was(states: list[str], proves: bool, name: str) -> None:
    """Whatever Serve goes through: the new target answers, or all applications are those of before."""
    serve = place(becomes={"new": states}, proving=None if proves else ModelError("broken"))
    before = {app: one.target for app, one in serve.apps.items()}
    try:
        put(serve, target(name))
    except DeployError:
        assert {app: one.target for app, one in serve.apps.items()} == before
    else:
        assert {app: one.target for app, one in serve.apps.items()} == {**before, name: target(name)}
