"""Bringing endpoints up and down on the Ray that this process is connected to."""

from __future__ import annotations

from pathlib import Path

from serve_apps.client import Endpoint
from serve_apps.ray_serve import RayServe, start_serve
from serve_apps.rollout import Rollout, Tell
from serve_apps.room import sized
from serve_apps.schemas import VersionRef
from serve_apps.targets import Target, check_name, check_place, choose_route, find_own
from tutelage.config.runtime import ServeConfig
from tutelage.export.spec import ModelSpec

READY_S = 120.0


def deploy(
    folder: Path,
    version: VersionRef,
    config: ServeConfig,
    name: str | None = None,
    *,
    route: str | None = None,
    ready_s: float = READY_S,
    replace: bool = True,
    tell: Tell = lambda _: None,
) -> Endpoint:
    """Serve a version and wait until it answers. The endpoint of this name is replaced and drops no request.

    Args:
        folder: the export folder, readable on every node that gets a replica.
        version: what the replies name.
        config: the `serve` section; port 0 takes a free one.
        name: the endpoint's; the version's when null.
        route: the path below which it answers; the one that it has, else `/NAME`, when null.
        ready_s: how long a candidate may take, and then the new replicas, waiting for CPUs included.
        replace: False refuses the name of an endpoint that is there.
        tell: hears of each change while it waits.

    Raises:
        ModelError: the folder has no such variant.
        ConfigError: a name or route that cannot be, or that belongs to something else.
        ServeError: the port is taken.
        DeployError: the version failed or found no room; what answered before goes on.
    """
    ModelSpec.read(folder).file(folder, config.variant)
    found = RayServe().applications()
    name = check_name(name or version.name)
    target = Target(
        name=name,
        route=choose_route(name, route, found),
        folder=str(folder.absolute()),
        version=version,
        config=sized(config, found[name].replicas if name in found else 0),
    )
    check_place(target, found, replace=replace)
    place = start_serve(config)
    Rollout(place, tell).put(target, ready_s, replace=replace)
    return place.endpoint(target)


def undeploy(name: str) -> None:
    """Take one endpoint down; requests in flight are answered first. Other applications go on.

    Raises:
        ConfigError: there is no endpoint of this name.
    """
    place = RayServe()
    find_own(name, place.applications())
    place.delete(name)
