"""What surrounds `ray.init`, without a Ray: variables, shipped code, tokens, processes, signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

import actors
import tutelage
from actors.ray_setup import (
    LONGEST_TEMP,
    code_folders,
    code_for_workers,
    code_roots,
    descendants,
    end_processes,
    environment,
    has_token,
    ray_temp,
    wanted_env,
)
from actors.session import cluster_address
from actors.signals import STOPPING, Stopped, stops, stops_ignored, take_stops
from tutelage.config.runtime import RayConfig
from tutelage.errors import ClusterError

pytestmark = pytest.mark.unit


def test_an_in_process_ray_has_a_token_and_stays_on_loopback(tmp_path: Path) -> None:
    """Token mode whether or not a token exists yet; the switch for one machine; no usage statistics."""
    wanted = wanted_env({}, local=True, user_home=tmp_path)
    assert wanted["RAY_AUTH_MODE"] == "token"
    assert wanted["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"
    assert wanted["RAY_USAGE_STATS_ENABLED"] == "0"


def test_what_the_user_has_set_stays(tmp_path: Path) -> None:
    """A variable of the user is not among those that are set."""
    user = {"RAY_AUTH_MODE": "disabled", "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "2"}
    wanted = wanted_env(user, local=True, user_home=tmp_path)
    assert not set(user) & set(wanted)


def test_a_cluster_is_joined_in_token_mode_only_with_a_token(tmp_path: Path) -> None:
    """Without a token Ray would refuse before it asks the cluster."""
    assert "RAY_AUTH_MODE" not in wanted_env({}, local=False, user_home=tmp_path)
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("secret")
    wanted = wanted_env({}, local=False, user_home=tmp_path)
    assert wanted["RAY_AUTH_MODE"] == "token"
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in wanted
    assert "PYTHONPATH" not in wanted


def test_a_token_is_found_where_ray_looks(tmp_path: Path) -> None:
    """RAY_AUTH_TOKEN, then the file of RAY_AUTH_TOKEN_PATH, then ~/.ray/auth_token."""
    assert not has_token({}, tmp_path)
    assert has_token({"RAY_AUTH_TOKEN": "secret"}, tmp_path)
    assert not has_token({"RAY_AUTH_TOKEN_PATH": str(tmp_path / "none")}, tmp_path)
    (tmp_path / "token").write_text("secret")
    assert has_token({"RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}, tmp_path)


def test_workers_get_the_folders_that_this_process_imports(tmp_path: Path) -> None:
    """In-process by PYTHONPATH, with the user's own behind it; on a cluster by upload."""
    root = Path(actors.__file__).parents[1]
    core = Path(tutelage.__file__).parents[1]
    assert {root, core} <= set(code_roots())
    path = wanted_env({"PYTHONPATH": "/mine"}, local=True, user_home=tmp_path)["PYTHONPATH"].split(os.pathsep)
    assert path[-1] == "/mine"
    assert {str(root), str(core)} <= set(path[:-1])
    assert {folder.name for folder in code_folders()} >= {"tutelage", "actors", "serve_apps"}
    assert code_for_workers({}) == {"py_modules": [str(folder) for folder in code_folders()]}


def test_a_job_that_ships_modules_is_left_alone() -> None:
    """Ray refuses two lists of modules; one that ships a working_dir alone gets ours."""
    job = {"runtime_env": {"py_modules": ["gcs://a.zip"]}}
    assert code_for_workers({"RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps(job)}) is None
    other = {"runtime_env": {"working_dir": "gcs://b.zip"}}
    assert code_for_workers({"RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps(other)}) is not None


def test_the_environment_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Old values return, new names go, after an error too."""
    monkeypatch.setenv("TUT_OLD", "old")

    def fail() -> None:
        with environment({"TUT_OLD": "new", "TUT_NEW": "new"}):
            assert (os.environ["TUT_OLD"], os.environ["TUT_NEW"]) == ("new", "new")
            raise KeyError("body")

    with pytest.raises(KeyError, match="body"):
        fail()
    assert os.environ["TUT_OLD"] == "old"
    assert "TUT_NEW" not in os.environ


def test_an_address_comes_from_the_config_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """ray.address, else RAY_ADDRESS, else None; `local` means in-process."""
    monkeypatch.setenv("RAY_ADDRESS", "env:1")
    assert cluster_address(RayConfig(address="file:2")) == "file:2"
    assert cluster_address(RayConfig()) == "env:1"
    assert cluster_address(RayConfig(address="local")) is None
    monkeypatch.delenv("RAY_ADDRESS")
    assert cluster_address(RayConfig()) is None


@pytest.mark.parametrize("stubborn", [False, True])
def test_processes_that_stay_are_ended(stubborn: bool) -> None:
    """One that ends on TERM, and one that ignores it."""
    ignore = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " if stubborn else ""
    code = f"{ignore}print(1, flush=True); import time; time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert end_processes([psutil.Process(process.pid)], grace_s=0, step_s=0.5) == []
        assert not psutil.pid_exists(process.pid)


def test_what_a_worker_started_is_found_after_its_parents_are_gone() -> None:
    """By the raylet's number in its environment: a process whose parent has ended is nobody's child."""
    raylet = 4_000_000 + os.getpid()  # above the largest pid
    code = (
        "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', "
        "'import time; time.sleep(60)'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid)"
    )
    env = {**os.environ, "RAY_RAYLET_PID": str(raylet)}
    orphan = int(
        subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True).stdout
    )
    try:
        assert [process.pid for process in descendants([raylet])] == [orphan]
        assert descendants([raylet + 1]) == []
    finally:
        end_processes([psutil.Process(orphan)], grace_s=0)


@pytest.mark.parametrize(("number", "code"), [*zip(STOPPING, (130, 143, 129), strict=True)])
def test_each_signal_that_stops_is_a_ctrl_c(number: signal.Signals, code: int) -> None:
    """It raises a KeyboardInterrupt that knows the exit code; afterwards the old handler is back."""
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt) as stopped, stops():
        signal.raise_signal(number)
    assert isinstance(stopped.value, Stopped)
    assert stopped.value.exit_code == code
    assert signal.getsignal(number) is before


def test_ignored_signals_stop_but_for_nohup() -> None:
    """A background job's SIGINT is taken although the shell ignored it; nohup's SIGHUP stays ignored."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGHUP)}
    try:
        with stops():
            signal.raise_signal(signal.SIGHUP)
            take_stops()
            signal.raise_signal(signal.SIGHUP)
            with pytest.raises(Stopped):
                signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_clean_up_is_not_cut_short() -> None:
    """No signal that stops reaches the body."""
    reached = False
    with stops(), stops_ignored():
        for number in STOPPING:
            signal.raise_signal(number)
        reached = True
    assert reached


def test_other_threads_install_no_handlers() -> None:
    """Python allows handlers in the main thread only; elsewhere the body just runs."""
    ran = []

    def body() -> None:
        with stops(), stops_ignored():
            ran.append(True)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert ran == [True]


@given(length=st.integers(2, 200))
def test_rays_sockets_fit_below_whatever_folder_is_given(length: int) -> None:
    """A kernel's bound on a socket's path; a long TMPDIR is left to everybody else."""
    given = "/" + "x" * (length - 1)
    found = ray_temp({"TMPDIR": given, "RAY_TMPDIR": given}, "/var/tmp".__eq__)  # noqa: S108
    assert found == (given if length <= LONGEST_TEMP else "/var/tmp")  # noqa: S108
    socket = f"{found}/ray/session_2026-11-25_18-05-56_123456_4194304/sockets/plasma_store"
    assert len(socket.encode()) <= 107


def test_no_folder_for_rays_sockets_says_what_to_set() -> None:
    with pytest.raises(ClusterError, match="has 90 bytes, ") as caught:
        ray_temp({"RAY_TMPDIR": "/" + "x" * 89}, lambda folder: False)
    assert "RAY_TMPDIR" in caught.value.fix
