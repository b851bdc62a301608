"""Requests per second and latency of an endpoint, with batching off and on.

`python -m benchmarks.serving FOLDER [--seconds 5] [--json]`: FOLDER is an export or version folder. Each
row is one deployment asked by so many client threads over kept-alive connections on loopback. Clients,
proxy and replica share the machine that is printed, so the figures are of the whole, not of the model.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from actors.session import session
from serve_apps.client import Endpoint
from serve_apps.deploy import deploy, undeploy
from serve_apps.predictor import Predictor
from serve_apps.schemas import VersionRef
from tutelage.config.runtime import RayConfig, ServeConfig

TEXTS = (
    "A quiet, funny and generous film that stays with you.",
    "It stopped charging after two weeks and nobody answers.",
    "good product",
    "The senate passed the bill late on Thursday after hours of debate over the budget.",
)
CLIENTS = (1, 8)
SETTINGS = ((1, 0.0), (16, 0.0), (16, 2.0), (16, 2.0), (16, 0.0), (1, 0.0))
"""(serve.max_batch, serve.batch_wait_ms), there and back, so that a drift of the machine cancels out.

Equal ones are measured as one.
"""


@dataclass(frozen=True)
class Row:
    """One measurement."""

    max_batch: int
    batch_wait_ms: float
    clients: int
    requests: int
    per_second: float
    p50_ms: float
    p95_ms: float


def measure(endpoint: Endpoint, clients: int, seconds: float) -> list[float]:
    """Milliseconds of each request from `clients` threads that ask without a pause."""
    times: list[list[float]] = [[] for _ in range(clients)]
    end = time.perf_counter() + seconds

    def ask(own: list[float]) -> None:
        parts = urlsplit(endpoint.url)
        connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=30)
        while time.perf_counter() < end:
            body = json.dumps({"text": TEXTS[len(own) % len(TEXTS)]})
            begin = time.perf_counter()
            connection.request("POST", f"{parts.path}/v1/predict", body, {"content-type": "application/json"})
            response = connection.getresponse()
            response.read()
            assert response.status == 200
            own.append((time.perf_counter() - begin) * 1000)
        connection.close()

    threads = [threading.Thread(target=ask, args=(own,)) for own in times]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [one for own in times for one in own]


def in_process(folder: Path, runs: int = 200) -> float:
    """Median milliseconds of one text in the predictor alone: no HTTP, no Ray."""
    predictor = Predictor(folder)
    predictor.predict(TEXTS)
    times = []
    for n in range(runs):
        begin = time.perf_counter()
        predictor.predict([TEXTS[n % len(TEXTS)]])
        times.append((time.perf_counter() - begin) * 1000)
    return statistics.median(times)


def run(folder: Path, seconds: float) -> list[Row]:
    """All rows, each on fresh deployments in one Ray."""
    times: dict[tuple[int, float, int], list[float]] = {}
    with tempfile.TemporaryDirectory() as home, session(RayConfig(object_store_mb=200), Path(home)):
        for turn, (max_batch, wait_ms) in enumerate(SETTINGS):
            config = ServeConfig(port=0, max_batch=max_batch, batch_wait_ms=wait_ms)
            endpoint = deploy(folder, VersionRef(name="benchmark", id=f"turn-{turn}"), config)
            for clients in CLIENTS:
                measure(endpoint, clients, 1.0)
                found = measure(endpoint, clients, seconds)
                times.setdefault((max_batch, wait_ms, clients), []).extend(found)
        undeploy("benchmark")
    spent = {key: seconds * SETTINGS.count(key[:2]) for key in times}
    return [_row(*key, found, spent[key]) for key, found in sorted(times.items())]


def _row(max_batch: int, wait_ms: float, clients: int, times: list[float], spent_s: float) -> Row:
    p95 = statistics.quantiles(times, n=20)[18]
    return Row(max_batch, wait_ms, clients, len(times), len(times) / spent_s, statistics.median(times), p95)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    alone_ms = in_process(given.folder)
    rows = run(given.folder, given.seconds)
    machine = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}"
    if given.json:
        print(json.dumps({"machine": machine, "predictor_ms": alone_ms, "rows": [asdict(r) for r in rows]}))
        return
    print(f"machine: {machine}\ncommand: python -m benchmarks.serving {' '.join(sys.argv[1:])}")
    print(f"predictor alone, one text: {alone_ms:.2f} ms")
    print("max_batch  wait ms  clients  requests/s  p50 ms  p95 ms")
    for row in rows:
        setting = f"{row.max_batch:>9}  {row.batch_wait_ms:>7g}  {row.clients:>7}"
        print(f"{setting}  {row.per_second:>10.0f}  {row.p50_ms:>6.1f}  {row.p95_ms:>6.1f}")


if __name__ == "__main__":
    main()
