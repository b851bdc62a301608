"""Runs: how they begin, end, and show that their process is gone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tutelage.errors import ConfigError, StoreError
from tutelage.registry import Database, Runs

pytestmark = pytest.mark.unit


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'r.db'}")
    yield database
    database.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def runs(database: Database, clock: Clock) -> Runs:
    return Runs(database, clock)


def start(runs: Runs, run_id: str, kind: str = "distill", job: str = "reviews") -> None:
    runs.start(run_id, kind, job, "name: reviews\n", digest="abc")


def test_a_run_keeps_what_it_was_started_with_and_what_it_measured(runs: Runs, clock: Clock) -> None:
    runs.start("d-1", "distill", "reviews", "name: reviews\n", digest="abc", parent="tune-1")
    assert runs.get("d-1").status == "running"
    clock.now = 1012.5
    runs.finish("d-1", "done", {"accuracy": {"mean": 0.83}, "loss": float("nan")})
    run = runs.get("d-1")
    assert (run.status, run.seconds, run.parent, run.digest) == ("done", 12.5, "tune-1", "abc")
    assert run.config_yaml == "name: reviews\n"
    assert run.figures["accuracy"] == {"mean": 0.83}
    assert run.figures["loss"] != run.figures["loss"]


def test_a_done_run_cannot_start_again(runs: Runs) -> None:
    start(runs, "d-1")
    runs.finish("d-1", "done")
    with pytest.raises(StoreError, match="run 'd-1' is done"):
        start(runs, "d-1")


def test_a_running_run_cannot_start_twice(runs: Runs) -> None:
    start(runs, "d-1")
    with pytest.raises(StoreError, match=f"is held by process {os.getpid()} on "):
        start(runs, "d-1")


def test_only_a_running_run_can_end(runs: Runs) -> None:
    with pytest.raises(StoreError, match="'d-1' is not known"):
        runs.finish("d-1", "done")
    start(runs, "d-1")
    runs.finish("d-1", "failed")
    with pytest.raises(StoreError, match="is failed already"):
        runs.finish("d-1", "done")


def test_running_is_no_end(runs: Runs) -> None:
    start(runs, "d-1")
    with pytest.raises(ValueError, match="not 'running'"):
        runs.finish("d-1", "running")


def test_the_list_is_newest_first_and_filtered(runs: Runs, clock: Clock) -> None:
    for count, (kind, job) in enumerate([("finetune", "a"), ("distill", "a"), ("distill", "b")]):
        clock.now = 1000.0 + count
        start(runs, f"r{count}", kind, job)
    runs.finish("r1", "done")
    assert [run.run_id for run in runs.list()] == ["r2", "r1", "r0"]
    assert [run.run_id for run in runs.list(kind="distill")] == ["r2", "r1"]
    assert [run.run_id for run in runs.list(kind="distill", job="a", status="done")] == ["r1"]


def test_a_run_is_found_by_the_beginning_of_its_id(runs: Runs) -> None:
    start(runs, "distill-aa")
    start(runs, "distill-ab")
    assert runs.get("distill-aa").run_id == "distill-aa"
    assert runs.get("distill-ab"[:-1] + "b").run_id == "distill-ab"
    with pytest.raises(ConfigError, match="ambiguous: distill-aa, distill-ab"):
        runs.get("distill-a")
    with pytest.raises(ConfigError, match="near: distill-a"):
        runs.get("distil-aa")


def test_a_done_run_begins_anew_when_it_is_said(runs: Runs, clock: Clock) -> None:
    """It takes the time of this making, not the time since the first."""
    start(runs, "d-1")
    runs.finish("d-1", "done", {"loss": 0.1})
    clock.now = 2000.0
    run = runs.start("d-1", "distill", "reviews", "", digest="abc", again=True)
    assert (run.status, run.figures, run.finished) == ("running", {}, None)
    clock.now = 2049.0
    assert runs.finish("d-1", "done").seconds == 49


@pytest.mark.parametrize(("fresh", "seconds"), [(False, 30 + 49), (True, 49)])
def test_a_run_that_goes_on_counts_the_work_on_it_and_no_pause(
    runs: Runs, clock: Clock, fresh: bool, seconds: float
) -> None:
    start(runs, "d-1")
    clock.now += 30
    runs.finish("d-1", "failed")
    clock.now += 5000
    runs.start("d-1", "distill", "reviews", "", digest="abc", fresh=fresh)
    clock.now += 49
    assert runs.finish("d-1", "done").seconds == seconds
