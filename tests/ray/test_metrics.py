"""What a training tells Prometheus: read from the node's own port while a student is at work.

Ray takes its workers' metrics over every ten seconds, so this looks again and again for half a minute.
"""

from __future__ import annotations

import re
import threading
from typing import Any
from urllib.request import ProxyHandler, build_opener

import pytest
import ray

from actors.metrics import COUNTERS, GAUGES
from actors.session import Session
from tests.ray import train_samples as sample

pytestmark = pytest.mark.ray

LOOKS = 60
SERIES = re.compile(r'^ray_(tutelage_\w+?)(?:_total)?\{.*?teacher="(\w+)".*\} (\S+)$', re.MULTILINE)
Told = dict[tuple[str, str], float]


def scrape(run: str) -> Told:
    """(metric, teacher) -> value of a run, from the port that Ray names."""
    nodes: Any = ray.nodes  # Ray leaves it unannotated
    node = next(node for node in nodes() if node["Alive"])
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with build_opener(ProxyHandler({})).open(url, timeout=10) as answer:
        page = answer.read().decode()
    lines = "\n".join(line for line in page.splitlines() if f'run="{run}"' in line)
    return {(name, teacher): float(value) for name, teacher, value in SERIES.findall(lines)}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory, cluster: Session) -> tuple[Told, dict[str, Any]]:
    """What stood on the page while the student stood before its 30th question, and the training's result."""
    space = sample.workspace(tmp_path_factory.mktemp("metrics"))
    training = sample.training(space, "metrics-run")
    told: Told = {}

    def look(_pid: int) -> None:
        pause = threading.Event()
        for _ in range(LOOKS):
            told.update(scrape("metrics-run"))
            if told:
                return
            pause.wait(0.5)

    with sample.running(sample.fleet(space, one=2)) as fleet:
        fleet.ready(120)
        done = sample.disturb(training, fleet.members, 30, look)
    return told, done.result


def test_a_node_shows_the_counters_and_gauges_of_each_teacher(seen: tuple[Told, dict[str, Any]]) -> None:
    """In the middle of a training: all gauges, and the counters of what happened."""
    told, result = seen
    gauges = {(name, teacher) for name in GAUGES for teacher in ("one", "two")}
    assert gauges <= set(told), f"only {sorted(told)} after {LOOKS} looks"
    for teacher, replicas in (("one", 2), ("two", 1)):
        assert told["tutelage_teacher_replicas", teacher] == replicas
        assert told["tutelage_teacher_left_out", teacher] == 0
        assert 0 < told["tutelage_teacher_examples", teacher] <= 160
        assert told["tutelage_teacher_bytes_per_position", teacher] > 0
        assert 0 <= told["tutelage_teacher_wait_share", teacher] <= 1
        shown = told["tutelage_teacher_replies", teacher]
        assert 0 < shown <= result["teachers"][teacher]["calls"]
    assert {name for name, _ in told} <= {*COUNTERS, *GAUGES}


def test_the_result_of_a_training_holds_the_end_of_each_fleet(seen: tuple[Told, dict[str, Any]]) -> None:
    """Of a healthy fleet: its replicas, no respawn, no note, and a share of waiting below one."""
    _, result = seen
    assert result["notes"] == []
    assert result["teachers"]["one"]["replicas"] == 2
    assert result["teachers"]["two"]["respawns"] == 0
    assert 0 < result["teachers"]["two"]["wait_share"] < 1
    assert result["teachers"]["one"]["examples"] == 160
