"""One Ray for one command: started in this process, or joined by its address, and left clean."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.ray_setup import (
    code_for_workers,
    descendants,
    end_processes,
    environment,
    has_token,
    output_logged,
    own_processes,
    ray_reads_environment,
    ray_temp,
    wanted_env,
)
from actors.signals import shield_from_hang_up, stops, stops_ignored, take_stops
from tutelage.config.runtime import RayConfig
from tutelage.errors import ClusterError

LOCAL_START_S = 120.0
CONNECT_S = 30.0


@dataclass(frozen=True)
class Session:
    """A connected Ray."""

    address: str
    """The cluster's control address, `host:port`."""
    namespace: str
    local: bool
    """True when Ray runs in this process's own children and ends with the session."""
    dashboard: str | None
    """URL, or None when there is none."""
    storage: str
    """Folder or URL that every node must see: `ray.storage`, or $TUTELAGE_HOME."""
    resources: dict[str, float]
    """Resources of the whole cluster when the session began (`CPU`, `GPU`, ...)."""


def cluster_address(config: RayConfig) -> str | None:
    """The cluster to join: `ray.address`, else RAY_ADDRESS; None starts Ray in-process."""
    address = config.address or os.environ.get("RAY_ADDRESS") or None
    return None if address == "local" else address


@contextmanager
def session(
    config: RayConfig, home: Path, *, dashboard: bool = False, namespace: str = "tutelage"
) -> Iterator[Session]:
    """Run the body with Ray; afterwards nothing of an in-process Ray is left.

    Args:
        config: the `ray` section of the job.
        home: $TUTELAGE_HOME, the storage when the section names none.
        dashboard: whether the body needs the dashboard (Tune that starts Train does); `ray.dashboard`
            says `on` or `off` for itself.
        namespace: where named actors are found.

    SIGTERM and SIGHUP raise a KeyboardInterrupt in the main thread, so that they clean up as Ctrl-C does.
    Inside a running session this yields the running one and does not end it.

    Raises:
        ClusterError: Ray does not start, or the cluster does not answer within 30 s.
    """
    with starting(config, home, dashboard=dashboard, namespace=namespace) as ready:
        yield ready()


@contextmanager
def starting(
    config: RayConfig, home: Path, *, dashboard: bool = False, namespace: str = "tutelage"
) -> Iterator[Callable[[], Session]]:
    """As `session`, but the body runs at once while Ray starts; `ready()` waits for it.

    The variables for Ray are set for the whole body, so a body may read a changed `os.environ`.
    """
    import ray

    address = cluster_address(config)
    storage = config.storage or str(home)
    if ray.is_initialized():
        running = _describe(namespace, storage, local=own_processes() != [], dashboard=None)
        yield lambda: running
        return
    local = address is None
    with ExitStack() as stack:
        stack.enter_context(environment(wanted_env(os.environ, local=local, user_home=Path.home())))
        stack.enter_context(output_logged())
        stack.enter_context(stops())
        if address is None:
            stack.enter_context(ray_reads_environment(loopback=True))
            start = _Start(lambda: _launch(config, namespace, storage, dashboard), None, LOCAL_START_S)
        else:
            target = find_cluster(address)
            stack.enter_context(ray_reads_environment(loopback=target.loopback))
            start = _Start(lambda: _join(target.address, namespace, storage), address, CONNECT_S)
        stack.callback(start.end)

        def ready() -> Session:
            running = start.wait()
            # Ray's native part has put a handler of SIGTERM in front that prints a stack trace.
            take_stops()
            return running

        yield ready


class _Start:
    """`ray.init` in a thread that lives until the session ends.

    A thread bounds the time of a connection that hangs, lets Ctrl-C through while Ray starts, and
    overlaps the start with other work. It must live on: the kernel ends Ray's processes with the
    thread that started them.
    """

    def __init__(self, start: Callable[[], Session], address: str | None, limit_s: float) -> None:
        self._start, self._address, self._limit_s = start, address, limit_s
        self._session: Session | None = None
        self._error: Exception | None = None
        self._raylets: list[int] = []
        self._done, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="ray-session", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        shield_from_hang_up()
        try:
            self._session = self._start()
            if self._address is None:
                self._raylets = [process.pid for process in own_processes() if process.name() == "raylet"]
        except Exception as error:  # every failure of Ray is told to the waiting thread
            self._error = error
        self._done.set()
        self._over.wait()

    def wait(self) -> Session:
        """The session, once Ray answers."""
        if not self._done.wait(self._limit_s):
            self._error = TimeoutError(f"no answer within {self._limit_s:g} s")
        if self._session is None:
            raise _failure(self._address, self._error) from self._error
        return self._session

    def end(self) -> None:
        """Disconnect, and end what an in-process Ray started. A second signal cannot cut this short."""
        import ray

        with stops_ignored():
            finished = self._done.wait(0 if isinstance(self._error, TimeoutError) else 15)
            left = own_processes() if self._address is None else []
            if finished:
                ray.shutdown(wait_for_processes=self._address is None)
            self._over.set()
            stuck = end_processes(list({*left, *(descendants(self._raylets) if self._raylets else ())}))
            self._thread.join(5)
        if stuck:
            pids = " ".join(str(process.pid) for process in stuck)
            raise ClusterError(f"Ray processes {pids} did not end", fix=f"kill -9 {pids}")


def _launch(config: RayConfig, namespace: str, storage: str, dashboard: bool) -> Session:
    import ray

    with_dashboard = config.dashboard == "on" or (config.dashboard == "auto" and dashboard)
    _quiet()
    context = ray.init(
        # Not None: that would join whatever cluster /tmp/ray names, running or long dead.
        address="local",
        namespace=namespace,
        num_cpus=config.num_cpus,
        _temp_dir=str(Path(ray_temp(os.environ)) / "ray"),
        object_store_memory=config.object_store_mb and config.object_store_mb * 2**20,
        include_dashboard=with_dashboard,
        dashboard_host="127.0.0.1",
        log_to_driver=True,  # to where `output_logged` sends it
        logging_level=logging.ERROR,
    )
    return _describe(namespace, storage, local=True, dashboard=_url(context) if with_dashboard else None)


def _join(address: str, namespace: str, storage: str) -> Session:
    import ray

    _quiet()
    context = ray.init(
        address=address,
        namespace=namespace,
        log_to_driver=True,
        logging_level=logging.ERROR,
        runtime_env=code_for_workers(os.environ),
    )
    return _describe(namespace, storage, local=False, dashboard=_url(context))


def _url(context: Any) -> str | None:
    url = str(context.dashboard_url or "")
    return url if not url or "://" in url else f"http://{url}"


def _quiet() -> None:
    logging.getLogger("ray").setLevel(logging.ERROR)


def _describe(namespace: str, storage: str, *, local: bool, dashboard: str | None) -> Session:
    import ray

    resources: Any = ray.cluster_resources  # Ray leaves it unannotated
    return Session(
        address=ray.get_runtime_context().gcs_address,
        namespace=namespace,
        local=local,
        dashboard=dashboard or None,
        storage=storage,
        resources=dict(resources()),
    )


@dataclass(frozen=True)
class Target:
    """A cluster that accepts connections."""

    address: str
    loopback: bool
    """True when it listens on 127.0.0.1 alone, as an in-process Ray does."""


def find_cluster(address: str) -> Target:
    """Fail in seconds on a wrong host or port, where Ray itself would try for a minute."""
    from ray._private import services

    try:
        if address == "auto":
            with ray_reads_environment(loopback=True):
                address = services.canonicalize_bootstrap_address_or_die("auto")
        host, _, port = address.removeprefix("ray://").rpartition(":")
        if not host or not port.isdigit():
            raise ClusterError(
                f"ray.address is '{address}'", fix="write host:port, ray://host:10001, auto, or leave it out"
            )
        _knock(host.strip("[]"), int(port))
    except OSError as error:
        raise _failure(address, error) from error
    if host not in ("127.0.0.1", "localhost"):
        return Target(address, loopback=False)
    try:
        outer: Any = services.get_node_ip_address  # Ray leaves it unannotated
        _knock(outer(), int(port))
    except OSError:
        return Target(address, loopback=True)
    return Target(address, loopback=False)


def _knock(host: str, port: int) -> None:
    socket.create_connection((host, port), timeout=5).close()


def _failure(address: str | None, error: Exception | None) -> ClusterError:
    reason = " ".join(str(error).split()) or type(error).__name__
    if address is None:
        return ClusterError(
            f"Ray did not start on this machine: {reason}",
            fix="run `tutelage doctor`; Ray's own logs are in "
            f"{ray_temp(os.environ)}/ray/session_latest/logs",
        )
    token = "found" if has_token(os.environ, Path.home()) else "not found"
    mode = os.environ.get("RAY_AUTH_MODE", "unset")
    return ClusterError(
        f"no Ray cluster answers at '{address}': {reason} (RAY_AUTH_MODE {mode}, token {token})",
        fix="check that the cluster is up (`ray status`) and the address is right; a cluster with token "
        "authentication needs its token in ~/.ray/auth_token or RAY_AUTH_TOKEN here; without an address "
        "(unset RAY_ADDRESS and ray.address) Ray starts in this process",
    )
