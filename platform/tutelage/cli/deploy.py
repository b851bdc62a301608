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

    def plan(self) -> dict[str, Any]:
        """What would happen, as one row. Raises ModelError when the folder has no such variant."""
        from tutelage.export.spec import ModelSpec

        spec = ModelSpec.read(self.folder)
        file = spec.file(self.folder, self.serve.variant)
        return {
            "version": f"{self.version.name}:{self.version.id}",
            "variant": self.serve.variant,
            "file": str(file),
            "bytes": file.stat().st_size,
            "labels": spec.labels,
            "listens on": f"{self.serve.host}:{self.serve.port or 'a free port'}",
            "replicas": self.serve.replicas,
            "cpus": self.serve.replicas * self.serve.cpus_per_replica,
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
    plan: Plan = False,
    down: Annotated[
        bool, typer.Option("--down", help="Take the endpoint of a cluster down instead.")
    ] = False,
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
    if down:
        _take_down(console, given)
        return
    order = read_order(ref, folder, given)
    row = order.plan()
    if plan:
        console.result({"plan": [row]}, lambda: console.table("Plan", ["", ""], list(row.items())))
        return
    _serve(console, order)


def _serve(console: Console, order: Order) -> None:
    from actors.session import starting
    from serve_apps.deploy import deploy as start
    from serve_apps.deploy import undeploy
    from tutelage.files import home

    with starting(order.ray, home()) as ready:
        with console.stage("ray"):
            ray = ready()
        with console.stage("deploy") as stage:
            endpoint = start(order.folder, order.version, order.serve, tell=stage.note)
        console.result(_answer(endpoint, local=ray.local), lambda: _words(endpoint, local=ray.local))
        if ray.local:
            try:
                _watch(console, endpoint)
            except KeyboardInterrupt:
                undeploy()
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


def _take_down(console: Console, overrides: list[str]) -> None:
    from actors.session import cluster_address, session
    from serve_apps.deploy import undeploy
    from tutelage.errors import ConfigError
    from tutelage.files import home

    _, ray = sections({}, overrides)
    if cluster_address(ray) is None:
        raise ConfigError(
            "--down needs a cluster", fix="give --address; on this machine Ctrl-C ends `tutelage deploy`"
        )
    with session(ray, home()):
        undeploy()
    console.result({"down": True}, "the endpoint is down")


def read_order(ref: str | None, folder: Path | None, overrides: list[str]) -> Order:
    """The version or folder, and the settings: those of its job, then environment and command line.

    Raises:
        ConfigError: not exactly one of both, an unknown version, or a setting that cannot be meant.
    """
    from serve_apps.schemas import VersionRef
    from tutelage.config.yaml_source import parse_yaml
    from tutelage.errors import ConfigError
    from tutelage.files import digest_folder, home

    if (ref is None) == (folder is None):
        raise ConfigError(
            "deploy needs a version or --folder, not both",
            fix="`tutelage models ls` lists the versions; deploy one by name",
        )
    if folder is not None:
        serve, ray = sections({}, overrides)
        version = VersionRef(name=folder.resolve().name, id=digest_folder(folder)[:12])
        return Order(folder, version, serve, ray)
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
    return Order(versions.folder(found), version, serve, ray)


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


def _answer(endpoint: Endpoint, *, local: bool) -> dict[str, Any]:
    return {
        "url": endpoint.url,
        "name": endpoint.name,
        "version": endpoint.version,
        "variant": endpoint.variant,
        "detached": not local,
        "try": endpoint.curl,
    }


def _words(endpoint: Endpoint, *, local: bool) -> str:
    end = "Ctrl-C ends it" if local else "it stays; `tutelage deploy --down --address ...` ends it"
    return (
        f"{endpoint.name}:{endpoint.version} ({endpoint.variant}) answers at {endpoint.url}; {end}\n"
        f"try  {endpoint.curl}"
    )
