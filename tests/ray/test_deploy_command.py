"""`tutelage deploy` as a process: until TERM on this machine, detached on a cluster."""

from __future__ import annotations

import json
import signal
import subprocess
from contextlib import AbstractContextManager
from pathlib import Path

import psutil
import pytest

from actors.session import Session
from serve_apps.client import Endpoint
from tests.ray.processes import python
from tests.unit.serve_samples import version_folder
from tutelage.errors import ServeError

pytestmark = pytest.mark.ray


def command(home: Path, *arguments: str, **variables: str) -> AbstractContextManager[subprocess.Popen[str]]:
    """`tutelage deploy --json ...` with a home of its own."""
    words = ("-m", "tutelage.cli", "deploy", "--json", *arguments)
    return python(*words, **{"TUTELAGE_HOME": str(home), **variables})


def answer(process: subprocess.Popen[str]) -> dict[str, str]:
    """The JSON document of a command that goes on running."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line == "}\n":
            break
    return json.loads("".join(lines))


def endpoint_of(said: dict[str, str]) -> Endpoint:
    return Endpoint(said["url"], said["name"], said["version"], said["variant"])


def test_it_answers_until_term_and_leaves_nothing(home: Path, tmp_path: Path) -> None:
    """One JSON document, real answers, then TERM: exit code 0, a quiet end, no process."""
    folder = version_folder(tmp_path / "films")
    with command(home, "--folder", str(folder), "--port", "0", "ray.num_cpus=2") as process:
        said = answer(process)
        assert said["detached"] is False
        assert endpoint_of(said).ask(["good film"]).predictions[0].label == "positive"
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 5
        process.send_signal(signal.SIGTERM)
        rest, noise = process.communicate(timeout=60)
        assert (process.returncode, rest) == (0, "")
        assert noise.splitlines()[-1] == "stopped; requests in flight were answered"
        assert "Traceback" not in noise
        assert "SIGTERM received" not in noise
        _, alive = psutil.wait_procs(children, timeout=5)
        assert alive == []


def test_on_a_cluster_it_stays_until_it_is_taken_down(cluster: Session, home: Path, tmp_path: Path) -> None:
    """The command returns when the endpoint answers below its name; `undeploy` ends it."""
    folder = version_folder(tmp_path / "films")
    with command(home, "--folder", str(folder), "--port", "0", RAY_ADDRESS=cluster.address) as process:
        out, noise = process.communicate(timeout=90)
    assert process.returncode == 0, noise
    endpoint = endpoint_of(json.loads(out))
    assert json.loads(out)["detached"] is True
    assert endpoint.ask(["bad"]).predictions[0].label == "negative"
    assert endpoint.url.endswith("/films")
    words = ("-m", "tutelage.cli", "undeploy", "films", "--json", "--address", cluster.address)
    with python(*words, TUTELAGE_HOME=str(home)) as process:
        out, noise = process.communicate(timeout=60)
    assert (process.returncode, json.loads(out)) == (0, {"endpoint": "films", "down": True}), noise
    with pytest.raises(ServeError, match="does not answer"):
        endpoint.ask(["bad"], timeout_s=5)
