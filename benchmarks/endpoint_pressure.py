"""What an endpoint does under pressure: the largest requests at once, slow clients, killed processes.

`python -m benchmarks.endpoint_pressure FOLDER [--only large slow replica proxy] [--replicas 1] [--json]`:
FOLDER is an export or version folder. Each scenario has a deployment of its own on a Ray of this command.
All traffic is on loopback and ends by itself: requests are counted and clients have deadlines.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from actors.ray_setup import own_processes
from actors.session import session
from serve_apps.client import Endpoint
from serve_apps.deploy import deploy, undeploy
from serve_apps.schemas import VersionRef
from tutelage.config.runtime import RayConfig, ServeConfig

LARGE, SLOW, WATCH_S, TIMEOUT_S = 16, 600, 30.0, 120.0
WORD = b'{"text": "good"}'
Row = dict[str, Any]


def processes(name: str) -> list[psutil.Process]:
    """Processes of this command's Ray by the beginning of their name."""
    return [process for process in own_processes() if process.name().startswith(name)]


def replicas_mb() -> float:
    """Resident MB of all replicas together."""
    return sum(process.memory_info().rss for process in processes("ray::ServeRepl")) / 1e6


def ask(endpoint: Endpoint, body: bytes = WORD, path: str = "/v1/predict") -> tuple[str, float]:
    """What came of one request (status, and `plain` behind it when the body is no JSON), and its ms."""
    parts = urlsplit(endpoint.url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=TIMEOUT_S)
    begin = time.perf_counter()
    try:
        headers = {"content-type": "application/json"}
        connection.request("POST" if body else "GET", parts.path + path, body or None, headers)
        response = connection.getresponse()
        raw, status = response.read(), str(response.status)
        try:
            json.loads(raw)
        except ValueError:
            status += " plain"
    except (OSError, http.client.HTTPException) as error:
        status = type(error).__name__
    finally:
        connection.close()
    return status, (time.perf_counter() - begin) * 1000


@contextmanager
def watching(*calls: Callable[[], tuple[str, float]]) -> Iterator[list[tuple[float, str, float]]]:
    """Calls each again and again while the body runs; gives (seconds since the start, what came, ms)."""
    seen: list[tuple[float, str, float]] = []
    over, start = threading.Event(), time.perf_counter()

    def watch(call: Callable[[], tuple[str, float]]) -> None:
        while not over.wait(0.02):
            status, ms = call()
            seen.append((time.perf_counter() - start, status, ms))

    threads = [threading.Thread(target=watch, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        over.set()
        for thread in threads:
            thread.join()


def told(seen: list[tuple[float, str, float]]) -> Row:
    """Counts by outcome, times, and the longest stretch without a 200."""
    times = [ms for _, _, ms in seen]
    good = [0.0, *sorted(at for at, status, _ in seen if status == "200"), max(at for at, _, _ in seen)]
    return {
        "outcomes": dict(Counter(status for _, status, _ in seen)),
        "median_ms": round(statistics.median(times), 1),
        "worst_ms": round(max(times), 1),
        "longest_without_200_s": round(max(b - a for a, b in pairwise(good)), 2),
    }


def large(endpoint: Endpoint, config: ServeConfig) -> Row:
    """The largest legal requests at once, and a request of one word behind them."""
    text = ("a b c " * config.max_chars)[: config.max_chars]  # a token for each two characters
    body = json.dumps({"texts": [text] * config.max_texts}).encode()
    before, peak = replicas_mb(), 0.0
    with watching(lambda: (str(replicas_mb()), 0.0)) as memory, ThreadPoolExecutor(LARGE) as pool:
        begin = time.perf_counter()
        crowd = [pool.submit(ask, endpoint, body) for _ in range(LARGE)]
        time.sleep(1)
        word = ask(endpoint)
        outcomes = Counter(one.result()[0] for one in crowd)
        took = time.perf_counter() - begin
    peak = max(float(mb) for _, mb, _ in memory)
    time.sleep(5)
    return {
        "outcomes": dict(outcomes),
        "all_s": round(took, 1),
        "word": word[0],
        "word_ms": round(word[1]),
        "mb_before": round(before),
        "mb_peak": round(peak),
        "mb_5s_later": round(replicas_mb()),
    }


def slow(endpoint: Endpoint, config: ServeConfig) -> Row:
    """Clients that send a head and a byte of the body each second, beside health checks and requests."""
    parts = urlsplit(endpoint.url)
    head = (
        f"POST {parts.path}/v1/predict HTTP/1.1\r\nhost: x\r\n"
        "content-type: application/json\r\ncontent-length: 1000\r\n\r\n"
    ).encode()
    crowd = [socket.create_connection((str(parts.hostname), parts.port or 80), 10) for _ in range(SLOW)]
    try:
        for one in crowd:
            one.sendall(head)
        time.sleep(1)
        health, predict = (lambda: ask(endpoint, b"", "/healthz")), (lambda: ask(endpoint))
        with watching(health) as healths, watching(predict) as predictions:
            for _ in range(int(WATCH_S)):
                time.sleep(1)
                for one in crowd:
                    _drip(one)
        return {"healthz": told(healths), "predict": told(predictions)}
    finally:
        for one in crowd:
            one.close()


def _drip(client: socket.socket) -> None:
    try:
        client.sendall(b" ")
    except OSError:
        return  # refused by the endpoint meanwhile: that is what is hoped for


def _kill(name: str, endpoint: Endpoint) -> Row:
    calls = [lambda: ask(endpoint)] * 4
    with watching(*calls) as seen:
        time.sleep(3)
        processes(name)[0].kill()
        time.sleep(WATCH_S + 10)
    return told(seen)


def replica(endpoint: Endpoint, config: ServeConfig) -> Row:
    """SIGKILL to one replica while four clients ask."""
    return _kill("ray::ServeRepl", endpoint)


def proxy(endpoint: Endpoint, config: ServeConfig) -> Row:
    """SIGKILL to Serve's proxy while four clients ask."""
    return _kill("ray::Proxy", endpoint)


SCENARIOS: dict[str, Callable[[Endpoint, ServeConfig], Row]] = {
    "large": large,
    "slow": slow,
    "replica": replica,
    "proxy": proxy,
}


def run(folder: Path, wanted: list[str], **keys: Any) -> dict[str, Row]:
    """Each scenario on a deployment of its own."""
    found = {}
    with tempfile.TemporaryDirectory() as home, session(RayConfig(object_store_mb=200), Path(home)):
        for name in wanted:
            config = ServeConfig(port=0, **keys)
            endpoint = deploy(folder, VersionRef(name="pressure", id=name), config)
            ask(endpoint)
            found[name] = SCENARIOS[name](endpoint, config)
            print(f"{name}: {json.dumps(found[name])}", file=sys.stderr)
            undeploy("pressure")
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    parser.add_argument("--replicas", type=int)
    parser.add_argument("--variant", choices=("int8", "fp32"), default="int8")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    keys = {"variant": given.variant} | ({"replicas": given.replicas} if given.replicas else {})
    rows = run(given.folder, given.only, **keys)
    machine = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}"
    if given.json:
        print(json.dumps({"machine": machine, "rows": rows}))
        return
    print(f"machine: {machine}\ncommand: python -m benchmarks.endpoint_pressure {' '.join(sys.argv[1:])}")
    for name, row in rows.items():
        print(f"{name}: {row}")


if __name__ == "__main__":
    main()
