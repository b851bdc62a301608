"""Bringing an endpoint up and down on the Ray that this process is connected to."""

from __future__ import annotations

import logging
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from serve_apps.client import Endpoint
from serve_apps.schemas import VersionRef
from tutelage.config.runtime import ServeConfig
from tutelage.errors import ServeError
from tutelage.export.spec import ModelSpec

READY_S = 120.0
REQUEST_S = 30.0
_ANY = ("0.0.0.0", "::")  # noqa: S104 (compared with, not bound to)


def deploy(
    folder: Path,
    version: VersionRef,
    config: ServeConfig,
    app_name: str = "tutelage",
    *,
    route: str = "/",
    ready_s: float = READY_S,
    tell: Callable[[str], None] = lambda _: None,
) -> Endpoint:
    """Serve a version and wait until it answers. An app of this name is replaced without dropping requests.

    Args:
        folder: the export folder, readable on every node that gets a replica.
        version: what the replies name.
        config: the `serve` section; port 0 takes a free one.
        app_name: Serve's name for the endpoint.
        route: the path below which it answers; two endpoints of one cluster need two.
        ready_s: how long replicas may take to start.
        tell: hears of each change while it waits.

    Raises:
        ModelError: the folder has no such variant.
        ServeError: the port is taken, a replica fails (with its own reason), or it takes too long.
    """
    from ray import serve

    from serve_apps.endpoint import application

    ModelSpec.read(folder).file(folder, config.variant)
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    port = _start_serve(config)
    deadline = time.monotonic() + ready_s
    app = application(folder.absolute(), version, config)
    # `serve.run` waits without a limit when the cluster has no room for a replica.
    serve.api._run(app, name=app_name, route_prefix=route, _blocking=False)
    _wait_running(app_name, deadline, config, tell)
    host = _head() if config.host in _ANY else config.host
    endpoint = Endpoint(f"http://{host}:{port}{route.rstrip('/')}", version.name, version.id, config.variant)
    _wait_version(endpoint, deadline)
    return endpoint


def undeploy(app_name: str = "tutelage") -> None:
    """Take the endpoint down; Serve itself goes with its last app. Requests in flight are answered first."""
    from ray import serve

    apps = serve.status().applications
    if app_name in apps and len(apps) > 1:
        serve.delete(app_name)
    else:
        end: Any = serve.shutdown  # Ray leaves it unannotated
        end()


def _start_serve(config: ServeConfig) -> int:
    """Start Serve where it does not run yet; gives the port it listens on."""
    from ray import serve
    from ray.serve.context import _get_global_client

    client: Any = _get_global_client(raise_if_no_controller_running=False)
    if client is None:
        port = config.port or free_port(config.host)
        if config.port and not _is_free(config.host, port):
            raise ServeError(
                f"serve.port {port} is in use on {config.host}", fix="choose another, or 0 for any free one"
            )
        serve.start(
            proxy_location="HeadOnly",
            http_options={"host": config.host, "port": port, "request_timeout_s": REQUEST_S},
            logging_config={"log_level": "WARNING", "enable_access_log": False},
        )
        return port
    running = int(client.http_config.port)
    if config.port not in (0, running):
        raise ServeError(
            f"serve.port is {config.port}; Serve already runs on this cluster with port {running}",
            fix=f"set serve.port to {running}, or stop Serve first (`serve shutdown`)",
        )
    return running


def free_port(host: str) -> int:
    """A port that nobody listens on."""
    with socket.create_server((host, 0)) as server:
        return int(server.getsockname()[1])


def _is_free(host: str, port: int) -> bool:
    try:
        socket.create_server((host, port)).close()
    except OSError:
        return False
    return True


def _wait_running(app_name: str, deadline: float, config: ServeConfig, tell: Callable[[str], None]) -> None:
    from ray import serve

    seen = ""
    while True:
        app = serve.status().applications.get(app_name)
        state = str(app.status.value) if app else "NOT_STARTED"
        if state != seen:
            tell(state.lower().replace("_", " "))
            seen = state
        if state == "RUNNING":
            return
        problem, fix = _problem(app)
        if state in ("DEPLOY_FAILED", "UNHEALTHY"):
            serve.delete(app_name, _blocking=False)
            raise ServeError(f"no replica came up: {problem}", fix=fix or "put right what the replica says")
        if time.monotonic() > deadline:
            serve.delete(app_name, _blocking=False)
            wanted = f"{config.replicas} x {config.cpus_per_replica:g} CPU"
            raise ServeError(
                f"the endpoint was not ready in time (it wants {wanted}): {problem or state}",
                fix="lower serve.cpus_per_replica or serve.replicas, or free CPUs (`ray status`)",
            )
        time.sleep(0.1)


def _problem(app: Any) -> tuple[str, str]:
    """What Serve knows, shortened to the replica's own exception (and its fix) where there is one."""
    if app is None:
        return "", ""
    messages = [str(app.message), *(str(d.message) for d in app.deployments.values())]
    text = max(messages, key=len)
    raised = re.findall(r"^(?:[\w.]+\.)?(\w+(?:Error|Exception): .*)(?:\n\s*fix: (.*))?", text, re.MULTILINE)
    return raised[-1] if raised else (" ".join(text.split()), "")


def _head() -> str:
    """The address of the node that the proxy runs on."""
    import ray

    return str(ray.get_runtime_context().gcs_address).rpartition(":")[0]


def _wait_version(endpoint: Endpoint, deadline: float) -> None:
    """Serve says RUNNING a moment before its proxy routes to the new replica."""
    while True:
        try:
            found = endpoint.ready(timeout_s=5)
            if (found.version, found.variant) == (endpoint.version, endpoint.variant):
                return
            problem = f"still answers with version {found.version} ({found.variant})"
        except ServeError as error:
            problem = error.problem
        if time.monotonic() > deadline:
            raise ServeError(
                f"replicas run, but from here {endpoint.url}: {problem}",
                fix="serve.host is an address of the head node: set one that this machine reaches "
                "(0.0.0.0 for all), or run the command on the head",
            )
        time.sleep(0.05)
