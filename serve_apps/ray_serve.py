"""The Serve of the Ray that this process is connected to: what runs there, and what is told to it."""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from serve_apps.client import Endpoint
from serve_apps.front import ENVIRONMENT
from serve_apps.rollout import Tell
from serve_apps.targets import DEPLOYMENT, Running, Target
from tutelage.config.runtime import ServeConfig
from tutelage.errors import ServeError

REQUEST_S = 30.0
_ANY = ("0.0.0.0", "::")  # noqa: S104 (compared with, not bound to)
_STARTED = b"tutelage-started-serve"
_RAISED = re.compile(r"^(?:[\w.]+\.)?(\w+(?:Error|Exception): .*)(?:\n\s*fix: (.*))?", re.MULTILINE)


class RayServe:
    """A `Place`. `url` is where the proxy listens; None for who does not ask it."""

    def __init__(self, url: str = "") -> None:
        self.url = url

    def applications(self) -> dict[str, Running]:
        """What Serve says of itself, but for what is being taken down; nothing where it does not run."""
        client = _client()
        if client is None:
            return {}
        found = client.get_serve_details()["applications"]
        apps = {name: read_app(name, app) for name, app in found.items()}
        return {name: app for name, app in apps.items() if app.state != "DELETING"}

    def prove(self, target: Target, limit_s: float, tell: Tell) -> None:
        """In a process of its own."""
        from serve_apps.candidate import prove

        prove(target, limit_s, tell)

    def run(self, target: Target) -> None:
        """Without waiting: `serve.run` waits without a limit when the cluster has no room for a replica."""
        from ray import serve

        from serve_apps.endpoint import application

        logging.getLogger("ray.serve").setLevel(logging.ERROR)
        serve.api._run(application(target), name=target.name, route_prefix=target.route, _blocking=False)

    def delete(self, name: str) -> None:
        """Requests in flight are answered first. Serve ends with its last one, where tutelage began it."""
        from ray import serve

        serve.delete(name)
        client = _client()
        if client is not None and not self.applications() and _kept() == _mark(client):
            end: Any = serve.shutdown  # Ray leaves it unannotated
            end()

    def endpoint(self, target: Target) -> Endpoint:
        """Where the target answers."""
        url = f"{self.url}{target.route.rstrip('/')}"
        return Endpoint(url, target.version.name, target.version.id, target.config.variant)

    def differs(self, target: Target) -> str:
        """Serve says RUNNING a moment before its proxy routes to the new replica."""
        endpoint = self.endpoint(target)
        try:
            found = endpoint.ready(timeout_s=5)
        except ServeError as error:
            return f"{endpoint.url}: {error.problem}"
        same = (found.version, found.variant) == (endpoint.version, endpoint.variant)
        return "" if same else f"{endpoint.url} still answers with version {found.version} ({found.variant})"


def read_app(name: str, app: dict[str, Any]) -> Running:
    """One application out of Serve's own details."""
    deployments: dict[str, Any] = app["deployments"]
    own = deployments.get(DEPLOYMENT, {})
    try:
        target = Target.model_validate(own.get("deployment_config", {}).get("user_config"))
    except ValidationError:  # somebody else's, or of another release
        target = None
    messages = [str(app["message"]), *(str(one["message"]) for one in deployments.values())]
    problem, fix = find_problem(messages)
    return Running(
        name=name,
        route=app.get("route_prefix"),
        state=_plain(app["status"]),
        ours=set(deployments) == {DEPLOYMENT},
        target=target,
        problem=problem,
        fix=fix,
        replicas=sum(_plain(one["state"]) == "RUNNING" for one in own.get("replicas", [])),
    )


def _plain(state: Any) -> str:
    """Serve gives its states as enumerations or as their values."""
    return str(getattr(state, "value", state))


def find_problem(messages: list[str]) -> tuple[str, str]:
    """What Serve says, shortened to the replica's own exception (and its fix) where there is one."""
    text = max(messages, key=len)
    raised = _RAISED.findall(text)
    return raised[-1] if raised else (" ".join(text.split()), "")


def start_serve(config: ServeConfig) -> RayServe:
    """Start Serve where it does not run yet. Raises ServeError where the port is another's."""
    import ray
    from ray import serve

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    client = _client()
    if client is None:
        check_haproxy(config.host, os.environ)
        port = config.port or free_port(config.host)
        if config.port and not _is_free(config.host, port):
            raise ServeError(
                f"serve.port {port} is in use on {config.host}", fix="choose another, or 0 for any free one"
            )
        serve.start(
            proxy_location="HeadOnly",
            http_options={"host": config.host, "port": port, "request_timeout_s": REQUEST_S},
            logging_config={"log_level": "WARNING", "enable_access_log": False},
            controller_options={"runtime_env": {"env_vars": dict(ENVIRONMENT)}},
        )
        _keep(_mark(_client()))
    else:
        port, host = int(client.http_config.port), str(client.http_config.host)
        if config.host != host:
            raise ServeError(
                f"serve.host is {config.host}; Serve already runs on this cluster and listens on {host}",
                fix=f"set serve.host to {host} if that is meant, or stop Serve first (`serve shutdown`)",
            )
        if config.port not in (0, port):
            raise ServeError(
                f"serve.port is {config.port}; Serve already runs on this cluster with port {port}",
                fix=f"set serve.port to {port}, or stop Serve first (`serve shutdown`)",
            )
    head = str(ray.get_runtime_context().gcs_address).rpartition(":")[0]
    return RayServe(f"http://{head if config.host in _ANY else config.host}:{port}")


def check_haproxy(host: str, env: Mapping[str, str]) -> None:
    """Raises ServeError for Serve's HAProxy mode on loopback: some of its ports are open to the network."""
    if env.get("RAY_SERVE_ENABLE_HA_PROXY") == "1" and host not in _ANY:
        stats, metrics = (
            env.get(f"RAY_SERVE_HAPROXY_{name}_PORT", port)
            for name, port in (("STATS", "8404"), ("METRICS", "9101"))
        )
        raise ServeError(
            f"serve.host is {host}, but in HAProxy mode Serve opens ports {stats} and {metrics} (statistics) "
            "on all interfaces",
            fix="unset RAY_SERVE_ENABLE_HA_PROXY, or set serve.host to 0.0.0.0 if the network may reach them",
        )


def running_serve() -> RayServe:
    """The Serve that runs, as it listens on the head; without one it has no URL and no applications."""
    import ray

    client = _client()
    if client is None:
        return RayServe()
    host = str(client.http_config.host)
    if host in _ANY:
        host = str(ray.get_runtime_context().gcs_address).rpartition(":")[0]
    return RayServe(f"http://{host}:{client.http_config.port}")


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


def _client() -> Any:
    from ray.serve.context import _get_global_client

    return _get_global_client(raise_if_no_controller_running=False)


def _mark(client: Any) -> bytes:
    """Names one life of Serve: another start has another controller."""
    return str(client._controller._actor_id.hex()).encode()


def _keep(mark: bytes) -> None:
    from ray.experimental import internal_kv

    internal_kv._internal_kv_put(_STARTED, mark, overwrite=True)


def _kept() -> bytes | None:
    from ray.experimental import internal_kv

    found: bytes | None = internal_kv._internal_kv_get(_STARTED)
    return found
