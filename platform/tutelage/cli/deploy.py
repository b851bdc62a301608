"""`tutelage deploy`: a version behind HTTP, on this machine until Ctrl-C, or on a cluster."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tutelage.cli.finetune import Address, Plan

if TYPE_CHECKING:
    from actors.session import Session
    from serve_apps.client import Endpoint
    from serve_apps.schemas import VersionRef
    from tutelage.cli.console import Console
    from tutelage.config.runtime import RayConfig, ServeConfig

CHECK_S = 5.0
"""Seconds between looks at a running endpoint."""


@dataclass(frozen=True)
class Order:
    """What to serve, and how."""

    folder: Path
    version: VersionRef
    serve: ServeConfig
    ray: RayConfig
    name: str
    """The endpoint's."""
    route: str | None
    """None: the one that it has, else its name below `/`."""

    def plan(self) -> dict[str, Any]:
        """What would happen, as one row. Raises ModelError when the folder has no such variant."""
        from tutelage.export.spec import ModelSpec

        spec = ModelSpec.read(self.folder)
        file = spec.file(self.folder, self.serve.variant)
        return {
            "endpoint": self.name,
            "route": self.route or f"the one it has, else /{self.name}",
            "version": f"{self.version.name}:{self.version.id}",
            "variant": self.serve.variant,
            "file": str(file),
            "bytes": file.stat().st_size,
            "labels": spec.labels,
            "listens on": f"{self.serve.host}:{self.serve.port or 'a free port'}",
            "replicas": self.serve.replicas or "2 where there is room, else 1",
            "cpus": (self.serve.replicas or 1) * self.serve.cpus_per_replica,
            "ray": self.ray.address or os.environ.get("RAY_ADDRESS") or "in-process",
        }


def deploy(
    ctx: typer.Context,
    ref: Annotated[str | None, typer.Argument(help="NAME, NAME@ALIAS, NAME:ID or ID; see --folder.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Such as serve.replicas=2.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--folder", help="Serve an export folder instead of a recorded version.")
    ] = None,
    port: Annotated[int | None, typer.Option("--port", help="serve.port; 0 takes a free one.")] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="The endpoint; the model's name if not given.")
    ] = None,
    route: Annotated[
        str | None, typer.Option("--route", help="Where it answers; /NAME, or where it does already.")
    ] = None,
    plan: Plan = False,
    address: Address = None,
) -> None:
    """Answer HTTP requests with a version: here until Ctrl-C, or detached on a cluster (--address)."""
    from tutelage.cli.quiet import quiet_libraries

    console: Console = ctx.obj
    quiet_libraries()
    ref, given = (None, [ref, *(overrides or [])]) if ref and "=" in ref else (ref, list(overrides or []))
    if address:
        given.append(f"ray.address={address}")
    if port is not None:
        given.append(f"serve.port={port}")
    order = read_order(ref, folder, given, name=name, route=route)
    row = order.plan()
    if plan:
        console.result({"plan": [row]}, lambda: console.table("Plan", ["", ""], list(row.items())))
        return
    _serve(console, order)


def _serve(console: Console, order: Order) -> None:
    from actors.session import starting
    from serve_apps.deploy import deploy as start
    from serve_apps.deploy import undeploy
    from tutelage.export.probes import FILE
    from tutelage.files import home

    if not (order.folder / FILE).exists():
        console.warn(
            f"{order.folder} keeps no {FILE}: whether replicas answer as where it was exported is not checked"
        )
    with starting(order.ray, home()) as ready:
        with console.stage("ray"):
            ray = ready()
        with console.stage("deploy") as stage:
            endpoint = start(
                order.folder, order.version, order.serve, order.name, route=order.route, tell=stage.note
            )
        console.result(_answer(order, endpoint, ray), lambda: _words(order, endpoint, ray))
        if ray.local:
            try:
                _watch(console, endpoint)
            except KeyboardInterrupt:
                undeploy(order.name)
                console.say("stopped; requests in flight were answered")


def _watch(console: Console, endpoint: Endpoint) -> None:
    """Until Ctrl-C; says when the endpoint stops answering, and when it answers again."""
    from tutelage.errors import ServeError

    never, well = threading.Event(), True
    while not never.wait(CHECK_S):
        try:
            endpoint.ready()
        except ServeError as error:
            if well:
                console.warn(error.problem)
            well = False
        else:
            if not well:
                console.say(f"{endpoint.url} answers again")
            well = True


def read_order(
    ref: str | None,
    folder: Path | None,
    overrides: list[str],
    *,
    name: str | None = None,
    route: str | None = None,
) -> Order:
    """The version or folder, and the settings: those of its job, then environment and command line.

    Raises:
        ConfigError: not exactly one of both, an unknown version, a name or route that cannot be, or a setting
            that cannot be meant.
    """
    from serve_apps.schemas import VersionRef
    from serve_apps.targets import check_name, check_route
    from tutelage.config.yaml_source import parse_yaml
    from tutelage.errors import ConfigError
    from tutelage.files import digest_folder, home

    if (ref is None) == (folder is None):
        raise ConfigError(
            "deploy needs a version or --folder, not both",
            fix="`tutelage models ls` lists the versions; deploy one by name",
        )
    route = None if route is None else check_route(route)
    if folder is not None:
        serve, ray = sections({}, overrides)
        version = VersionRef(name=folder.resolve().name, id=digest_folder(folder)[:12])
        return Order(folder, version, serve, ray, check_name(name or version.name), route)
    from tutelage.registry.registry import open_registry

    versions = open_registry(home()).versions
    found = versions.get(str(ref))
    lineage = found.card.lineage
    job = parse_yaml(lineage.config_yaml, found.ref).data
    serve, ray = sections(job if isinstance(job, dict) else {}, overrides)
    summary = {
        "run": lineage.run_id,
        "data": lineage.data_fingerprint,
        "teachers": lineage.teachers,
        "base_model": lineage.base_model,
        "created": found.created,
    }
    version = VersionRef(name=found.name, id=found.id, lineage=summary)
    return Order(versions.folder(found), version, serve, ray, check_name(name or found.name), route)


def sections(job: dict[str, Any], overrides: list[str]) -> tuple[ServeConfig, RayConfig]:
    """`serve` of the recorded job and `ray` of here and now, with what stands above them.

    A recorded port 0 is no wish for a port; where Ray ran in training says nothing of now.
    """
    from pydantic import ValidationError

    from tutelage.config.base import Section, unknown_key
    from tutelage.config.overrides import apply_overrides, environment_overrides, parse_override
    from tutelage.config.runtime import RayConfig, ServeConfig
    from tutelage.errors import ConfigError

    class Settings(Section):
        serve: ServeConfig = ServeConfig()
        ray: RayConfig = RayConfig()

    recorded = {key: value for key, value in (job.get("serve") or {}).items() if (key, value) != ("port", 0)}
    data: dict[str, Any] = {"serve": recorded, "ray": {}}
    surrounding = [o for o in environment_overrides(os.environ) if o.words[0] in Settings.model_fields]
    given = [parse_override(text) for text in overrides]
    for override in given:
        if override.words[0] not in Settings.model_fields:
            raise ConfigError(
                f"{override.key}: {unknown_key(override.words[0], Settings.model_fields)}",
                fix="deploy takes serve.* and ray.*; the rest was fixed when the version was made",
            )
    for layer in (surrounding, given):
        apply_overrides(data, {}, layer, Settings)
    try:
        settings = Settings.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise ConfigError(
            f"{key}: {first['msg'].removeprefix('Value error, ')}",
            fix="`tutelage config schema` lists the keys",
        ) from error
    return settings.serve, settings.ray


def _answer(order: Order, endpoint: Endpoint, ray: Session) -> dict[str, Any]:
    return {
        "endpoint": order.name,
        "url": endpoint.url,
        "name": endpoint.name,
        "version": endpoint.version,
        "variant": endpoint.variant,
        "detached": not ray.local,
        "try": endpoint.curl,
    }


def _words(order: Order, endpoint: Endpoint, ray: Session) -> str:
    undeploy = f"`tutelage undeploy {order.name} --address {ray.address}`"
    end = "Ctrl-C ends it" if ray.local else f"it stays; {undeploy} ends it"
    return (
        f"{endpoint.name}:{endpoint.version} ({endpoint.variant}) answers at {endpoint.url}; {end}\n"
        f"try  {endpoint.curl}"
    )
