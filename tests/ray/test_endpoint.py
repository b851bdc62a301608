"""A version behind Ray Serve: answers, batches, refusals, replacement, failure. Real HTTP on loopback."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psutil
import pytest
import ray
from ray import serve

from actors.ray_setup import own_processes
from actors.session import Session
from serve_apps.client import Endpoint, asking
from serve_apps.deploy import deploy, undeploy
from serve_apps.ray_serve import RayServe
from serve_apps.schemas import VersionRef
from tests.ray.conftest import CPUS
from tests.ray.leftovers import free_cpus
from tests.ray.processes import python
from tests.unit.serve_samples import VECTORS_VC, probed_folder, word_tokenizer, write_onnx
from tutelage.config.runtime import ServeConfig
from tutelage.errors import ConfigError, DeployError, ServeError
from tutelage.export.probes import AGAIN

pytestmark = pytest.mark.ray

CONFIG = ServeConfig(port=0, cpus_per_replica=0.5, max_texts=4, max_chars=100, max_batch=8)
VERSION = VersionRef(name="films", id="aaaa", lineage={"run": "films-1"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return probed_folder(tmp_path_factory.mktemp("version"))


@pytest.fixture(scope="module")
def endpoint(cluster: Session, folder: Path) -> Iterator[Endpoint]:
    yield deploy(folder, VERSION, CONFIG, "films")
    undeploy("films")


def post(endpoint: Endpoint, body: bytes, kind: str = "application/json") -> tuple[int, dict[str, str], Any]:
    parts = urlsplit(endpoint.url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
    try:
        connection.request("POST", f"{parts.path}/v1/predict", body, {"content-type": kind})
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return response.status, headers, json.loads(response.read())
    finally:
        connection.close()


def test_it_answers_with_its_version(endpoint: Endpoint) -> None:
    """Each text gets its label; the body and a header name the version."""
    reply = endpoint.ask(["good film", "bad bad"])
    assert [p.label for p in reply.predictions] == ["positive", "negative"]
    assert (reply.model, reply.version, reply.variant) == ("films", "aaaa", "int8")
    assert reply.latency_ms > 0
    status, headers, body = post(endpoint, b'{"text": "good"}')
    assert (status, headers["x-tutelage-version"]) == (200, "aaaa")
    assert body["predictions"][0]["score"] == pytest.approx(0.880797, abs=1e-5)


def test_it_says_what_it_serves(endpoint: Endpoint) -> None:
    """Readiness and the model's card."""
    assert endpoint.ready().model_dump() == {
        "ready": True,
        "model": "films",
        "version": "aaaa",
        "variant": "int8",
    }
    assert endpoint.model().model_dump() == {
        "model": "films",
        "version": "aaaa",
        "variant": "int8",
        "answers_with": "int8",
        "labels": ["negative", "positive"],
        "max_tokens": 8,
        "lineage": {"run": "films-1"},
    }


def test_concurrent_requests_get_their_own_answers(endpoint: Endpoint) -> None:
    """Requests that share a batch do not mix: 60 at once, each with its own texts."""

    def ask(n: int) -> list[str]:
        texts = ["good"] * (1 + n % 3) + ["bad"]
        return [p.label for p in endpoint.ask(texts).predictions]

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(ask, range(60)))
    assert answers == [["positive"] * (1 + n % 3) + ["negative"] for n in range(60)]


@pytest.mark.parametrize(
    ("body", "kind", "status", "code"),
    [
        (b"{bad", "application/json", 400, "invalid_json"),
        (b'{"txt": "good"}', "application/json", 422, "invalid_request"),
        (b'{"text": "good"}', "text/plain", 415, "unsupported_media_type"),
        (b'{"texts": ["a", "b", "c", "d", "e"]}', "application/json", 413, "too_large"),
        (b'{"text": "' + b"a" * 20_000 + b'"}', "application/json", 413, "too_large"),
    ],
)
def test_bad_input_is_refused_through_the_proxy(
    endpoint: Endpoint, body: bytes, kind: str, status: int, code: str
) -> None:
    """Status, code, message and fix reach the client as the replica wrote them."""
    found, headers, reply = post(endpoint, body, kind)
    assert (found, reply["error"]["code"]) == (status, code)
    assert reply["error"]["message"]
    assert reply["error"]["fix"]
    assert headers["x-tutelage-version"] == "aaaa"


def test_the_client_tells_the_refusal(endpoint: Endpoint) -> None:
    """`ask` raises the endpoint's own words and fix."""
    with pytest.raises(ServeError, match=r"422 invalid_request: texts\.0: the text is empty") as caught:
        endpoint.ask([" "])
    assert "white space" in caught.value.fix


def test_the_proxy_reads_ahead_and_says_errors_in_json(endpoint: Endpoint) -> None:
    """Half a body and the end of the client's side never reach a replica, and are a 400 in JSON."""
    parts = urlsplit(endpoint.url)
    with socket.create_connection((str(parts.hostname), parts.port or 80), 30) as client:
        client.sendall(
            b"POST /v1/predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b'content-length: 100\r\n\r\n{"text": "go'
        )
        client.shutdown(socket.SHUT_WR)
        reply = http.client.HTTPResponse(client)
        reply.begin()
        assert (reply.status, json.loads(reply.read())["error"]["code"]) == (400, "incomplete")
        assert reply.getheader("x-tutelage-version") is None


def test_nothing_of_it_listens_beyond_loopback(endpoint: Endpoint) -> None:
    """Replicas too: what comes to their ports is unpickled."""
    listening = {
        (process.name(), found.laddr.ip.removeprefix("::ffff:"))
        for process in own_processes()
        for found in process.net_connections(kind="tcp")
        if found.status == psutil.CONN_LISTEN
    }
    assert any(name.startswith("ray::ServeRepl") for name, _ in listening)
    assert {ip for _, ip in listening} <= {"127.0.0.1", "::1"}, listening


def test_no_request_is_lost_with_a_replica_that_is_killed(endpoint: Endpoint) -> None:
    """SIGKILL to a replica while clients ask: those it had are asked again, and all get a 200."""
    over = threading.Event()

    def ask(_: int) -> int:
        count = 0
        while not over.is_set():
            assert endpoint.ask(["good film"] * 4).version == "aaaa"
            count += 1
        return count

    with ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(ask, n) for n in range(4)]
        try:
            before = replicas()
            psutil.Process(min(before)).kill()
            deadline = time.monotonic() + 60
            while len(replicas()) < len(before) or replicas() == before:
                assert time.monotonic() < deadline, "no new replica"
                time.sleep(0.1)
        finally:
            over.set()
        assert all(client.result() for client in clients)


def replicas() -> set[int]:
    return {p.pid for p in own_processes() if p.name().startswith("ray::ServeRepl")}


def test_replicas_load_neither_torch_nor_transformers(endpoint: Endpoint) -> None:
    """What a replica has mapped is onnxruntime and tokenizers."""
    replicas = [p for p in own_processes() if p.name().startswith("ray::ServeRepl")]
    assert replicas
    for replica in replicas:
        libraries = {Path(m.path).name for m in replica.memory_maps() if "site-packages" in m.path}
        assert any("onnxruntime" in name for name in libraries)
        assert not any(name.startswith(("libtorch", "libc10")) for name in libraries)


def test_a_new_version_replaces_the_old_without_a_lost_request(endpoint: Endpoint, folder: Path) -> None:
    """While clients keep asking, every reply is a 200 of the old or the new version, and new at the end."""
    seen: list[str] = []
    failures: list[ServeError] = []
    over = threading.Event()

    def keep_asking() -> None:
        while not over.is_set():
            try:
                seen.append(endpoint.ask(["good film"]).version)
            except ServeError as error:
                failures.append(error)

    clients = [threading.Thread(target=keep_asking) for _ in range(3)]
    for client in clients:
        client.start()
    newer = deploy(folder, VersionRef(name="films", id="bbbb"), CONFIG, "films")
    over.set()
    for client in clients:
        client.join()
    assert failures == []
    assert set(seen) == {"aaaa", "bbbb"}
    assert newer.ask(["good"]).version == "bbbb"
    assert newer.url == endpoint.url


def test_a_failed_deploy_leaves_what_answers(
    cluster: Session, endpoint: Endpoint, folder: Path, home: Path, tmp_path: Path
) -> None:
    """A version that fails its probes, one without a free CPU, a killed command: no request fails."""
    before = endpoint.ready().version
    broken = probed_folder(tmp_path / "broken")
    for file in ("model.onnx", "model.int8.onnx"):
        write_onnx(broken / file, VECTORS_VC * np.nan)
    new = VersionRef(name="films", id="cccc")
    with asking(endpoint, ["good film"]) as answered:
        with pytest.raises(DeployError, match=r"probe 'row \d' .* scores nan.*goes on answering with films:"):
            deploy(broken, new, CONFIG, "films")
        with all_cpus_taken():
            with pytest.raises(DeployError, match=r"films:cccc was still waiting for 0\.5 CPU after 3 s"):
                deploy(folder, new, CONFIG, "films", ready_s=3)
            words = (
                "-m",
                "tutelage.cli",
                "deploy",
                "--folder",
                str(folder),
                "--name",
                "films",
                "--port",
                "0",
            )
            with python(*words, TUTELAGE_HOME=str(home), RAY_ADDRESS=cluster.address) as command:
                assert command.stderr is not None
                assert any("waiting for 1 CPU" in line for line in command.stderr)
                command.kill()
        assert endpoint.ask(["good"]).version == before
    assert (answered.failed, answered.versions) == (0, [before])
    assert RayServe().applications()["films"].target.version.id == before


def test_endpoints_stand_side_by_side(cluster: Session, endpoint: Endpoint, folder: Path, home: Path) -> None:
    """Another model has another name and route; taking it down leaves the rest; others' things are theirs."""
    before = endpoint.ready().version
    books = deploy(folder, VersionRef(name="books", id="dddd"), CONFIG)
    assert books.url.endswith("/books")
    assert (books.ask(["bad"]).version, endpoint.ask(["bad"]).version) == ("dddd", before)
    theirs = serve.deployment(name="theirs", ray_actor_options={"num_cpus": 0})(Foreign)
    serve.run(theirs.bind(), name="theirs", route_prefix="/x")
    with pytest.raises(ConfigError, match="tutelage did not make"):
        deploy(folder, VERSION, CONFIG, "theirs")
    with pytest.raises(ConfigError, match="tutelage did not make"):
        undeploy("theirs")
    undeploy("books")
    with python("-m", "tutelage.cli", "endpoints", "ls", "--json", RAY_ADDRESS=cluster.address) as command:
        out, noise = command.communicate(timeout=60)
    assert command.returncode == 0, noise
    rows = {row["endpoint"]: row for row in json.loads(out)["endpoints"]}
    assert set(rows) == {"films", "theirs"}
    assert (rows["films"]["version"], rows["films"]["url"]) == (f"films:{before}", endpoint.url)
    assert rows["theirs"]["version"] == "not tutelage's"
    serve.delete("theirs")


class Foreign:
    """Somebody else's application."""

    def __call__(self) -> str:
        return "theirs"


class Holder:
    """Takes CPUs."""

    def here(self) -> None:
        """Returns when it has them."""


@contextmanager
def all_cpus_taken() -> Iterator[None]:
    """No room for another replica. What a process that ended held comes back a moment later."""
    deadline = time.monotonic() + 20
    while free_cpus() < CPUS - CONFIG.cpus_per_replica and time.monotonic() < deadline:
        time.sleep(0.05)
    actor = ray.remote(Holder).options(num_cpus=free_cpus()).remote()
    ray.get(actor.here.remote())
    try:
        yield
    finally:
        ray.kill(actor)


def test_a_version_that_does_not_load_is_told_with_its_reason(endpoint: Endpoint, tmp_path: Path) -> None:
    """The replica's own exception reaches the caller, and nothing of the endpoint is left."""
    broken = probed_folder(tmp_path / "broken")
    word_tokenizer(lower=False).save(str(broken / "tokenizer.json"))
    with pytest.raises(
        DeployError, match=r"ModelError: probe '.*' .* is read as \d tokens.*in training"
    ) as caught:
        deploy(broken, VersionRef(name="broken", id="cccc"), CONFIG)
    assert (caught.value.exit_code, caught.value.fix) == (1, AGAIN)
    assert set(RayServe().applications()) == {"films"}
    assert endpoint.ask(["good"]).predictions[0].label == "positive"


def test_a_cluster_without_room_is_told_in_time(endpoint: Endpoint, folder: Path) -> None:
    """More CPUs than there are: an error after `ready_s`, not an endless wait."""
    greedy = CONFIG.model_copy(update={"cpus_per_replica": 64})
    with pytest.raises(ServeError, match="it wants 1 x 64 CPU"):
        deploy(folder, VersionRef(name="greedy", id="dddd"), greedy, "greedy", route="/greedy", ready_s=2)
    assert "greedy" not in {
        name for name, app in serve.status().applications.items() if app.status == "RUNNING"
    }


def test_another_port_than_the_running_one_is_refused(endpoint: Endpoint, folder: Path) -> None:
    """Serve has one port a cluster; asking for a second one is an error, not silence."""
    other = CONFIG.model_copy(update={"port": urlsplit(endpoint.url).port + 1})
    with pytest.raises(ServeError, match="Serve already runs on this cluster with port"):
        deploy(folder, VERSION, other, "films")


def test_a_busy_replica_answers_503_with_retry_after(endpoint: Endpoint, folder: Path) -> None:
    """Beyond max_queued + max_batch requests at once, the rest is refused at once and told when to return."""
    tight = CONFIG.model_copy(update={"max_batch": 1, "max_queued": 1})
    crowded = deploy(folder, VersionRef(name="crowded", id="eeee"), tight, "crowded", route="/crowded")
    body = json.dumps({"texts": ["good film " * 9] * 4}).encode()
    parts = urlsplit(crowded.url)

    def ask(_: int) -> tuple[int, str | None, str]:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
        try:
            connection.request("POST", parts.path + "/v1/predict", body, {"content-type": "application/json"})
            response = connection.getresponse()
            return response.status, response.getheader("retry-after"), response.read().decode()
        finally:
            connection.close()

    with ThreadPoolExecutor(24) as pool:
        replies = list(pool.map(ask, range(120)))
    undeploy("crowded")
    assert {status for status, _, _ in replies} == {200, 503}
    refused = [(after, json.loads(text)) for status, after, text in replies if status == 503]
    assert all(after == "1" and reply["error"]["code"] == "overloaded" for after, reply in refused)
