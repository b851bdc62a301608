"""Names and routes of endpoints."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_apps.targets import OWN_PATHS, Running, check_name, check_route, choose_route, find_own
from tests.unit.memory_serve import serving, target
from tutelage.errors import ConfigError
from tutelage.registry.refs import check_name as check_version_name

pytestmark = pytest.mark.unit


@given(st.from_regex(r"[a-z0-9][a-z0-9._-]{0,62}", fullmatch=True))
def test_every_name_of_a_version_names_an_endpoint(name: str) -> None:
    """So the default name is never refused, nor its route, but for the paths that are an endpoint's own."""
    assert check_name(check_version_name("version", name)) == name
    if name not in OWN_PATHS:
        assert check_route(f"/{name}") == f"/{name}"


@given(st.text(min_size=1, max_size=8))
def test_a_name_that_is_allowed_needs_no_quoting(name: str) -> None:
    """In a URL and in Serve's own names, which may not hold '#'."""
    try:
        check_name(name)
    except ConfigError:
        return
    else:
        assert re.fullmatch(r"[\w.-]+", name, re.ASCII)


@pytest.mark.parametrize(
    "route",
    [
        "films",
        "/films/",
        "//",
        "",
        "/a//b",
        "/{x}",
        "/a b",
        "/-/routes",
        "/v1",
        "/healthz",
        "/a?b",
        "/films/v1",
        "/films/-",
    ],
)
def test_routes_that_cannot_be(route: str) -> None:
    """No slash in front, one at the end, wildcards, or what endpoints answer themselves."""
    with pytest.raises(ConfigError, match=f"route '{re.escape(route)}' is not allowed"):
        check_route(route)


def test_a_route_stays_where_it_is() -> None:
    """What was given, else what the endpoint has, else its name."""
    running = {"films": serving(target("films", route="/cinema"))}
    assert choose_route("films", None, running) == "/cinema"
    assert choose_route("films", "/", running) == "/"
    assert choose_route("books", None, running) == "/books"


def test_only_an_endpoint_is_taken_down() -> None:
    """Neither nothing nor somebody else's; the message lists what there is."""
    running = {"films": serving(target("films")), "jobs": Running("jobs", "/", "RUNNING", ours=False)}
    assert find_own("films", running).name == "films"
    with pytest.raises(ConfigError, match="no endpoint 'film', only films"):
        find_own("film", running)
    with pytest.raises(ConfigError, match="'jobs' is a Serve application that tutelage did not make"):
        find_own("jobs", running)
    with pytest.raises(ConfigError, match="only none"):
        find_own("films", {})


def test_equal_targets_are_one_version_to_serve() -> None:
    """What would change an answer changes the code; nothing else does."""
    assert target().code == target().code
    for other in (target(version="x"), target(route="/x"), target(max_batch=3)):
        assert other.code != target().code
