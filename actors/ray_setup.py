"""What surrounds `ray.init`: its environment, the code that workers import, and the processes it leaves."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import site
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import psutil

from tutelage.errors import ClusterError
from tutelage.run_log import heard

PACKAGES = ("tutelage", "actors", "tune_spaces", "serve_apps")

DEFAULTS: Mapping[str, str] = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Train answers one report per interval; its own default of 2 s makes reports block the training.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    # Each of these starts or loads something that a training here does not use, at 1 to 5 s each.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_ENABLE_WORKER_STRUCTURED_LOGGING": "0",
    # Paths in a job file are relative to the folder of the command, in workers too.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # Teachers and student share cores: a thread that spins while it waits takes them from the others
    # (a student step on two busy cores: 1.3 to 2.1 s spinning, 0.4 to 0.5 s without).
    "OMP_WAIT_POLICY": "PASSIVE",
    # Ray's coming default; without it every start prints a FutureWarning.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


def has_token(env: Mapping[str, str], user_home: Path) -> bool:
    """True when Ray would find an authentication token (RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH, ~/.ray)."""
    if env.get("RAY_AUTH_TOKEN"):
        return True
    path = env.get("RAY_AUTH_TOKEN_PATH")
    return Path(path).is_file() if path else (user_home / ".ray" / "auth_token").is_file()


def wanted_env(env: Mapping[str, str], *, local: bool, user_home: Path) -> dict[str, str]:
    """Variables to set before Ray starts; one that the user has set stays as it is.

    Token authentication is always on for an in-process Ray, which makes its own token. For an existing
    cluster it is on when there is a token: Ray refuses to connect in token mode without one.
    """
    wanted = {key: value for key, value in DEFAULTS.items() if key not in env}
    if "RAY_AUTH_MODE" not in env and (local or has_token(env, user_home)):
        wanted["RAY_AUTH_MODE"] = "token"
    if local:
        # Raylet and its workers inherit this, so they import the checkout that this process imports.
        wanted["PYTHONPATH"] = os.pathsep.join([*map(str, code_roots()), *_split(env.get("PYTHONPATH"))])
        # Ray's switch for "one machine only": the node takes 127.0.0.1 and every port is bound to loopback.
        wanted["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    return wanted


_SOCKET = "/ray/session_2026-11-25_18-05-56_123456_4194304/sockets/plasma_store.1"
_SOCKET_BYTES = 103 if sys.platform == "darwin" else 107
LONGEST_TEMP = _SOCKET_BYTES - len(_SOCKET)
"""Bytes of the folder below which Ray makes its sockets: a socket's path is bounded by the kernel."""
_SHORT = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108


def ray_temp_wanted(env: Mapping[str, str]) -> str:
    """The folder that Ray takes by itself."""
    given = env.get("RAY_TMPDIR") or (env.get("TMPDIR") if sys.platform.startswith("linux") else None)
    return given or _SHORT[0]


def _writable(folder: str) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)


def ray_temp(env: Mapping[str, str], writable: Callable[[str], bool] = _writable) -> str:
    """The folder below which an in-process Ray keeps its session: what it wants, or a shorter one.

    Raises ClusterError where none can be written.
    """
    own = ray_temp_wanted(env)
    for path in (own, *_SHORT):
        if len(os.fsencode(path)) <= LONGEST_TEMP and (path == own or writable(path)):
            return path
    raise ClusterError(
        f"Ray's sockets do not fit below {own}: it has {len(os.fsencode(own))} bytes, {LONGEST_TEMP} are "
        f"possible, and none of {', '.join(_SHORT)} can be written",
        fix="export RAY_TMPDIR=FOLDER with a short folder of yours",
    )


def _split(paths: str | None) -> list[str]:
    return [path for path in (paths or "").split(os.pathsep) if path]


def code_folders() -> list[Path]:
    """The folders of our packages as this process imports them."""
    folders = []
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations:
            folders.append(Path(next(iter(spec.submodule_search_locations))).resolve())
    return folders


def code_for_workers(env: Mapping[str, str]) -> dict[str, list[str]] | None:
    """The runtime environment that ships our packages to a cluster.

    None inside a submitted job that ships modules itself: Ray refuses two lists.
    """
    job = json.loads(env.get("RAY_JOB_CONFIG_JSON_ENV_VAR") or "{}")
    if (job.get("runtime_env") or {}).get("py_modules"):
        return None
    return {"py_modules": [str(folder) for folder in code_folders()]}


def code_roots() -> list[Path]:
    """Folders that a worker of the same interpreter needs on its path: those that are not installed."""
    installed = {Path(path).resolve() for path in (*site.getsitepackages(), site.getusersitepackages())}
    roots = dict.fromkeys(folder.parent for folder in code_folders())
    return [root for root in roots if root not in installed]


@contextmanager
def environment(wanted: Mapping[str, str]) -> Iterator[None]:
    """Set variables for the body and put the old values back."""
    before = {key: os.environ.get(key) for key in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


@contextmanager
def ray_reads_environment(*, loopback: bool) -> Iterator[None]:
    """Make an already imported Ray see the environment of now, and its one-machine switch (`loopback`).

    Ray reads both once, at import. Without this a later RAY_AUTH_MODE reaches the raylet and not this
    process, and the two refuse each other; and 127.0.0.1 is replaced by the machine's outer address,
    where a cluster on loopback does not listen.
    """
    from ray._private import ray_constants

    native: Any = importlib.import_module("ray._raylet")
    native.Config.initialize("")
    switch = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = switch and not loopback
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = switch


@contextmanager
def output_logged() -> Iterator[None]:
    """Send what workers print, and what Ray prints of raylet's events, to loggers instead of the terminal.

    Among the events is one for each orderly end of Serve that reads like a failure.
    """
    from ray._private import worker
    from ray.util.client.logsclient import LogstreamClient

    def log(data: Mapping[str, Any], *_: object, **__: object) -> None:
        lines = list(data.get("lines", ()))
        if data.get("pid") in ("raylet", "autoscaler"):
            # The autoscaler prints its state every few seconds.
            bad = [line for line in lines if "Error" in line or "Warning" in line]
            heard(lines if data["pid"] == "raylet" else bad, str(data["pid"]))
        else:
            name = data.get("actor_name") or data.get("task_name") or "worker"
            heard(lines, f"{name} {data.get('pid')} on {data.get('ip')}")

    def stream(_self: object, _level: int, text: str) -> None:
        heard(text.splitlines(), "cluster")

    module, client = cast("Any", worker), cast("Any", LogstreamClient)
    before, module.print_to_stdstream = module.print_to_stdstream, log
    remote, client.stdstream = client.stdstream, stream
    try:
        yield
    finally:
        module.print_to_stdstream, client.stdstream = before, remote


def own_processes() -> list[psutil.Process]:
    """Processes that `ray.init` of this process started, and everything below them."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.__file__:
        return []
    folder = str(Path(ray.__file__).parent)
    found: dict[int, psutil.Process] = {}
    for child in psutil.Process().children():
        try:
            if any(folder in part for part in child.cmdline()):
                found.update({p.pid: p for p in (child, *child.children(recursive=True))})
        except psutil.NoSuchProcess:
            continue
    return list(found.values())


def descendants(raylets: Collection[int]) -> list[psutil.Process]:
    """Processes that workers of these raylets started, also when their parents are gone.

    Serve's HAProxy is one: after a SIGTERM to the group it alone goes on, and holds the port. A worker
    leaves its raylet's number in the environment of what it starts.
    """
    found = []
    for process in psutil.process_iter():
        try:
            number = process.environ().get("RAY_RAYLET_PID", "")
        except psutil.Error:  # gone meanwhile, or somebody else's
            continue
        if number.isdigit() and int(number) in raylets:
            found.append(process)
    return found


def end_processes(
    processes: list[psutil.Process], *, grace_s: float = 5.0, step_s: float = 2.0
) -> list[psutil.Process]:
    """Wait until the processes are gone; end the ones that stay. Returns those that cannot be ended."""
    _, alive = psutil.wait_procs(processes, timeout=grace_s)
    for end in (psutil.Process.terminate, psutil.Process.kill):
        for process in alive:
            try:
                end(process)
            except psutil.NoSuchProcess:
                continue
        _, alive = psutil.wait_procs(alive, timeout=step_s)
    return list(alive)
