"""The Ray session: what it starts, whom it lets in, and that nothing of it is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import ray

import tutelage
from actors.ray_setup import own_processes
from actors.session import Session, find_cluster, session, starting
from tests.ray.processes import python
from tutelage.config.runtime import RayConfig
from tutelage.errors import ClusterError

pytestmark = pytest.mark.ray

START_S = 90.0

OWN_RAY = """
import json, os, sys
import psutil
from pathlib import Path
from actors.ray_setup import own_processes
from actors.session import starting
from tutelage.config.runtime import RayConfig

config = RayConfig(num_cpus=1, object_store_mb=100)
with starting(config, Path.cwd()) as ready:
    if sys.argv[1] == "starting":
        while len(own_processes()) < 3:
            pass
    else:
        ready()
    try:
        # The signal follows this line at once.
        print(json.dumps([p.pid for p in own_processes()]), flush=True)
        sys.stdin.read()
    except KeyboardInterrupt:
        print(json.dumps("interrupted"), flush=True)
"""

JOINER = """
import json, os
from pathlib import Path
from actors.session import session
from tutelage.config.runtime import RayConfig

with session(RayConfig(), Path.cwd(), namespace="joiner") as joined:
    import ray

    @ray.remote(num_cpus=0)
    def where():
        import actors, serve_apps, tutelage
        return [module.__file__ for module in (tutelage, actors, serve_apps)]

    print(json.dumps({"local": joined.local, "address": joined.address, "cpus": joined.resources["CPU"],
                      "namespace": ray.get_runtime_context().namespace, "files": ray.get(where.remote())}))
"""


@contextmanager
def driver(code: str, *arguments: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """A process that runs `code` with the checkout on its path alone, in an empty folder."""
    with (
        tempfile.TemporaryDirectory(prefix="tut-", dir="/tmp") as folder,
        python("-c", code, *arguments, folder=folder, **variables) as process,
    ):
        yield process


def gone_within(pids: list[int], seconds: float) -> list[str]:
    """The command lines of those that still run after so long."""
    processes = []
    for pid in pids:
        try:
            processes.append(psutil.Process(pid))
        except psutil.NoSuchProcess:
            continue
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return [" ".join(p.cmdline())[:120] for p in alive if p.status() != psutil.STATUS_ZOMBIE]


def test_it_describes_the_ray_it_started(cluster: Session) -> None:
    """Local, in the namespace asked for, with the CPUs asked for and no dashboard."""
    assert cluster.local
    assert cluster.resources["CPU"] == 4
    assert cluster.dashboard is None
    assert cluster.namespace == "tutelage" == ray.get_runtime_context().namespace
    assert Path(cluster.storage).is_dir()


def test_it_listens_on_loopback_alone(cluster: Session) -> None:
    """No port of any process that Ray started is open to another machine."""
    pids = {process.pid for process in own_processes()} | {os.getpid()}
    listening = [
        c.laddr.ip for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.pid in pids
    ]
    assert len(listening) >= 5
    assert {ip.removeprefix("::ffff:") for ip in listening} <= {"127.0.0.1", "::1"}


def test_workers_see_this_checkout_and_the_settings_of_train(cluster: Session) -> None:
    """In-process Ray needs no install and no upload: workers import the files that the driver imports."""

    @ray.remote(num_cpus=0)
    def look() -> tuple[str | None, str | None, str | None]:
        import tutelage

        return (
            tutelage.__file__,
            os.environ.get("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"),
            os.environ.get("RAY_AUTH_MODE"),
        )

    assert ray.get(look.remote()) == (tutelage.__file__, "0.2", "token")


def test_a_session_inside_a_session_is_the_same_one(cluster: Session, tmp_path: Path) -> None:
    """It is joined, and leaving it does not end Ray."""
    with session(RayConfig(), tmp_path) as inner:
        assert inner.address == cluster.address
        assert inner.local
    assert ray.is_initialized()
    assert ray.cluster_resources()["CPU"] == 4


def test_another_process_joins_by_address_and_ships_its_code(cluster: Session) -> None:
    """RAY_ADDRESS is enough; workers import the uploaded packages, not an installed tutelage."""
    with driver(JOINER, RAY_ADDRESS=cluster.address) as process:
        out, _ = process.communicate(timeout=START_S)
    found = json.loads(out.splitlines()[-1])
    assert found["local"] is False
    assert found["address"] == cluster.address
    assert found["namespace"] == "joiner"
    assert found["cpus"] == 4
    assert len(found["files"]) == 3
    assert all("py_modules_files" in file for file in found["files"])
    assert ray.is_initialized()


def test_a_wrong_token_is_refused(cluster: Session) -> None:
    """A driver with another token gets a ClusterError that speaks of the token, in bounded time."""
    begin = time.monotonic()
    with driver(JOINER, RAY_ADDRESS=cluster.address, RAY_AUTH_TOKEN="0" * 32) as process:
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "ClusterError: no Ray cluster answers" in said
    assert "RAY_AUTH_TOKEN" in said
    assert time.monotonic() - begin < 50


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("127.0.0.1:1", "refused"),
        ("ray://127.0.0.1:1", "refused"),
        ("no-such-host.invalid:6379", "no-such-host.invalid:6379"),
    ],
)
def test_an_address_without_a_cluster_fails_in_seconds(address: str, says: str) -> None:
    """The error names the address, what happened, and what to do about tokens."""
    begin = time.monotonic()
    with pytest.raises(ClusterError, match=says) as caught:
        find_cluster(address)
    assert address in caught.value.problem
    assert "auth_token" in caught.value.fix
    assert time.monotonic() - begin < 10


@pytest.mark.parametrize(("moment", "number"), [("starting", signal.SIGHUP), ("running", signal.SIGTERM)])
def test_a_closed_terminal_and_term_leave_no_process(moment: str, number: signal.Signals) -> None:
    """Sent to the whole group while Ray starts or runs: the driver ends in order, its Ray is gone."""
    with driver(OWN_RAY, moment) as process:
        pids = json.loads(process.stdout.readline())
        assert len(pids) >= 3
        os.killpg(process.pid, number)
        assert json.loads(process.stdout.readline()) == "interrupted"
        assert process.wait(60) == 0
        assert gone_within(pids, 5) == []


def test_a_stale_cluster_file_and_a_killed_driver() -> None:
    """The file of a cluster that died is ignored; after kill -9 of a driver its raylet and GCS go too."""
    with tempfile.TemporaryDirectory(prefix="tut-", dir="/tmp") as folder:
        Path(folder, "ray").mkdir()
        Path(folder, "ray", "ray_current_cluster").write_text("127.0.0.1:1")
        with driver(OWN_RAY, "running", RAY_TMPDIR=folder) as process:
            pids = json.loads(process.stdout.readline())
            started = [psutil.Process(pid) for pid in pids]
            core = [p.pid for p in started if p.name() in ("gcs_server", "raylet")]
            agents = [p for p in started if p.pid not in core]
            assert len(core) == 2
            process.kill()
            assert gone_within(core, 20) == []
            # Ray's agents notice up to a minute later than its core.
            for agent in agents:
                with suppress(psutil.NoSuchProcess):
                    agent.kill()


def test_starting_inside_a_session_is_ready_at_once(cluster: Session, tmp_path: Path) -> None:
    """`starting` joins the running one as `session` does."""
    with starting(RayConfig(), tmp_path) as ready:
        assert ready().address == cluster.address
