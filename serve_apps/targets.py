"""What an endpoint is: a name, a route, and the version that it answers with. Pure: knows no Ray."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from serve_apps.schemas import VersionRef
from tutelage.config.runtime import ServeConfig
from tutelage.errors import ConfigError
from tutelage.files import digest_text

DEPLOYMENT = "tutelage"
"""Serve's name for the replicas of every endpoint. An application without it is somebody else's."""
OWN_PATHS = ("v1", "healthz", "readyz", "openapi.json", "-")
"""First parts of paths that an endpoint at `/`, or Serve's proxy, answers itself."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_ROUTE = re.compile(r"/|(?:/[A-Za-z0-9._~-]+)+")


class Target(BaseModel):
    """What an endpoint is to answer with. Serve keeps it beside the replicas."""

    model_config = ConfigDict(frozen=True)

    name: str
    """The endpoint's, and that of its Serve application."""
    route: str
    """`/`, or a path without a slash at its end; requests below it are the endpoint's."""
    folder: str
    version: VersionRef
    config: ServeConfig

    @property
    def code(self) -> str:
        """Equal where replicas need not be replaced."""
        return digest_text(self.model_dump_json())[:16]

    @property
    def ref(self) -> str:
        """The version, as people write it."""
        return f"{self.version.name}:{self.version.id}"

    @property
    def cpus(self) -> str:
        """What its replicas are given, in words."""
        return f"{self.config.replicas or 1} x {self.config.cpus_per_replica:g} CPU"


@dataclass(frozen=True)
class Running:
    """An application of Serve, whoever made it."""

    name: str
    route: str | None
    state: str
    """RUNNING, DEPLOYING, DEPLOY_FAILED, UNHEALTHY, NOT_STARTED."""
    ours: bool
    target: Target | None = None
    """What it was last told to answer with; None where that is not known."""
    problem: str = ""
    fix: str = ""
    replicas: int = 0
    """Those that answer."""


def check_name(name: str) -> str:
    """`name`, when it can stand in a URL and be Serve's. Raises ConfigError."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"endpoint name '{name}' is not allowed: letters, digits, '.', '_' and '-', at most 63, "
            "a letter or digit first",
            fix="give another with --name",
        )
    return name


def check_route(route: str) -> str:
    """`route`, when it is a path that is free for endpoints. Raises ConfigError."""
    if not _ROUTE.fullmatch(route) or not set(OWN_PATHS).isdisjoint(route.split("/")):
        raise ConfigError(
            f"route '{route}' is not allowed: '/', or a path such as '/reviews' without a part that "
            f"endpoints answer themselves ({', '.join(OWN_PATHS)})",
            fix="give another with --route",
        )
    return route


def choose_route(name: str, route: str | None, running: Mapping[str, Running]) -> str:
    """The route that was asked for, else the one that the endpoint has, else its name below `/`."""
    known = running.get(name)
    return check_route(route or (known.route if known else None) or f"/{name}")


def check_place(target: Target, running: Mapping[str, Running], *, replace: bool = True) -> Running | None:
    """The endpoint that the target would replace. Raises ConfigError where name or route are not its own."""
    check_name(target.name)
    for app in running.values():
        if app.route == target.route and app.name != target.name:
            raise ConfigError(
                f"route '{target.route}' belongs to '{app.name}'",
                fix=f"give another with --route, such as /{target.name}",
            )
    before = running.get(target.name)
    if before is not None and not before.ours:
        raise ConfigError(
            f"'{target.name}' is a Serve application that tutelage did not make",
            fix="give another name with --name; it is left as it is",
        )
    if before is not None and not replace:
        raise ConfigError(f"there is an endpoint '{target.name}' already", fix="give another with --name")
    return before


def find_own(name: str, running: Mapping[str, Running]) -> Running:
    """The endpoint of this name. Raises ConfigError where there is none, or somebody else's application."""
    app = running.get(name)
    if app is None:
        names = ", ".join(sorted(one.name for one in running.values() if one.ours)) or "none"
        raise ConfigError(
            f"there is no endpoint '{name}', only {names}", fix="`tutelage endpoints ls` lists them"
        )
    if not app.ours:
        raise ConfigError(
            f"'{name}' is a Serve application that tutelage did not make", fix="end it the way it was made"
        )
    return app
