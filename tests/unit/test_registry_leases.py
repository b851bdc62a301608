"""Who holds a run: known by its process on this machine, by its heart elsewhere, and shut out by a number."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.registry_samples import card, model_folder
from tutelage.cli.main import main
from tutelage.data.folders import whole_folder
from tutelage.errors import StoreError
from tutelage.holder import Fence, Holder
from tutelage.registry import Database, Registry, Runs, open_registry
from tutelage.registry.leases import BEAT_S, TTL_S, HeartBeats

pytestmark = pytest.mark.unit

ELSEWHERE = replace(Holder.this(), host="box-7", machine="another boot")
ROOT = Path(__file__).parents[2]
SECOND = """
import sys, time
from pathlib import Path
from tutelage.registry import open_registry
open_registry(Path(sys.argv[1])).runs.start("d-1", "distill", "reviews", "", digest="abc")
print("held", flush=True)
time.sleep(600)
"""


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database.at_home(tmp_path)
    yield database
    database.close()


def start(runs: Runs, run_id: str = "d-1") -> None:
    runs.start(run_id, "distill", "reviews", "", digest="abc", again=True)


def test_a_process_that_was_killed_holds_nothing_and_one_that_lives_names_itself(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", SECOND, str(tmp_path)],
        env={"PYTHONPATH": str(ROOT / "platform"), "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        runs = open_registry(tmp_path).runs
        with pytest.raises(
            StoreError, match=rf"held by process {child.pid} on .*heart-beat was \d+ s ago"
        ) as no:
            start(runs)
        assert f"kill {child.pid}" in no.value.fix
        assert "tutelage runs release d-1" in no.value.fix
        child.kill()
        child.wait()
        assert runs.get("d-1").status == "interrupted"
        start(runs)
        assert (runs.get("d-1").status, runs.get("d-1").pid, runs.get("d-1").fence) == (
            "running",
            os.getpid(),
            2,
        )


def test_a_run_of_a_machine_that_is_gone_is_free_when_its_heart_was_silent_for_long(
    database: Database, clock: Clock
) -> None:
    start(Runs(database, clock, process=ELSEWHERE))
    here = Runs(database, clock)
    clock.now += TTL_S - 20
    assert here.get("d-1").silent_s == TTL_S - 20
    with pytest.raises(
        StoreError, match=r"held by process \d+ on box-7; its last heart-beat was 70 s ago"
    ) as no:
        start(here)
    assert "free in 20 s" in no.value.fix
    clock.now += 21
    assert [run.run_id for run in here.list(status="interrupted")] == ["d-1"]
    start(here)
    assert here.get("d-1").fence == 2


def test_a_heart_that_beats_holds_for_any_time(database: Database, clock: Clock) -> None:
    there, here = Runs(database, clock, process=ELSEWHERE), Runs(database, clock)
    start(there)
    for _ in range(100):
        clock.now += BEAT_S
        assert there.beat() == []
    with pytest.raises(StoreError, match="is held"):
        start(here)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(step=st.floats(-1e9, 1e9))
def test_no_step_of_a_clock_makes_a_living_process_look_dead(
    database: Database, clock: Clock, step: float
) -> None:
    first, second = Runs(database, clock), Runs(database, clock)
    start(first)
    clock.now += step
    with pytest.raises(StoreError, match="is held"):
        start(second)
    first.finish("d-1", "done")


def test_who_lost_a_run_writes_nothing_to_the_registry(tmp_path: Path, clock: Clock) -> None:
    """Neither an end nor a version; the run of the second goes on as if nobody else were there."""
    registry = open_registry(tmp_path, clock)
    late = Runs(registry.database, clock, process=ELSEWHERE)
    start(late)
    clock.now += TTL_S + 1
    other = open_registry(tmp_path, clock)
    start(other.runs)
    assert late.beat() == ["d-1"]
    folder = model_folder(tmp_path / "in", b"late")
    with pytest.raises(StoreError, match="'d-1' was taken from this process"):
        registry.versions.add("reviews", folder, card())
    with pytest.raises(StoreError, match="'d-1' was taken from this process"):
        late.finish("d-1", "done", {"loss": 1.0})
    assert other.versions.list() == []
    assert other.runs.finish("d-1", "done", {"loss": 0.5}).figures == {"loss": 0.5}


def test_release_takes_a_run_from_a_living_holder(tmp_path: Path, clock: Clock) -> None:
    there = Runs(Database.at_home(tmp_path), clock, process=ELSEWHERE)
    here = Runs(Database.at_home(tmp_path), clock)
    start(there)
    assert here.release("d-1").host == "box-7"
    assert here.get("d-1").status == "interrupted"
    assert there.beat() == ["d-1"]
    start(here)
    with pytest.raises(StoreError, match="taken"):
        there.finish("d-1", "done")
    here.finish("d-1", "done")
    with pytest.raises(StoreError, match="is done already"):
        here.release("d-1")


def test_only_who_holds_a_run_ends_it(tmp_path: Path, clock: Clock) -> None:
    start(Runs(Database.at_home(tmp_path), clock, process=ELSEWHERE))
    here = Runs(Database.at_home(tmp_path), clock)
    with pytest.raises(StoreError, match="'d-1' is not held by this process"):
        here.finish("d-1", "done")
    assert here.get("d-1").status == "running"


def test_a_process_of_another_container_on_this_host_is_not_looked_for_by_its_pid(
    database: Database, clock: Clock
) -> None:
    """Two containers may share a host's name, and their pids count separately."""
    start(Runs(database, clock, process=replace(Holder.this(), machine="other pids", pid=4_190_000)))
    with pytest.raises(StoreError, match="is held"):
        start(Runs(database, clock))


def test_a_later_process_with_the_same_pid_is_another_one() -> None:
    me = Holder.this()
    assert me.lives
    assert not replace(me, born=me.born - 100).lives
    assert replace(me, machine="elsewhere").lives is None


def test_the_folder_of_a_lost_run_is_not_published(tmp_path: Path) -> None:
    fence = Fence.raise_to(tmp_path, "d-1", 1, Holder.this())
    assert Fence.of(tmp_path, "d-1") == fence
    Fence.raise_to(tmp_path, "d-1", 2, ELSEWHERE)

    def publish() -> None:
        with whole_folder(tmp_path / "d-1" / "model", check=fence.check) as folder:
            (folder / "result.json").write_text("{}")

    with pytest.raises(StoreError, match=r"run 'd-1' was taken by process \d+ on box-7"):
        publish()
    assert list((tmp_path / "d-1").iterdir()) == []
    with pytest.raises(StoreError, match="was taken"):
        Fence.of(tmp_path, "d-1")
    assert Fence.of(tmp_path, "nobody-recorded-it") is None


def test_a_loss_is_noticed_by_the_heart(registry_of_two: tuple[Registry, Registry]) -> None:
    ours, theirs = registry_of_two
    start(ours.runs)
    noticed = threading.Event()
    with HeartBeats(ours.runs, noticed.set, every_s=0.01) as hearts:
        theirs.runs.release("d-1")
        assert noticed.wait(30)
    assert hearts.lost == ["d-1"]


def test_a_registry_that_does_not_answer_is_told_once_and_a_heart_beats_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    beats = iter([StoreError("the registry is away"), StoreError("the registry is away"), [], ["d-1"]])

    class Away:
        def beat(self) -> list[str]:
            found = next(beats)
            if isinstance(found, StoreError):
                raise found
            return found

    noticed = threading.Event()
    with HeartBeats(Away(), noticed.set, every_s=0.01):
        assert noticed.wait(30)
    assert caplog.messages == ["the registry is away; after 90 s others may take this run"]


@pytest.fixture
def registry_of_two(tmp_path: Path) -> tuple[Registry, Registry]:
    return open_registry(tmp_path), open_registry(tmp_path)


def test_time_is_the_databases(tmp_path: Path, database: Database) -> None:
    """SQLite's clock is its machine's; both count seconds since 1970."""
    import time

    with database.read() as session:
        assert abs(database.now(session) - time.time()) < 3600


def test_release_shuts_its_holder_out_of_the_folder_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUTELAGE_HOME", str(tmp_path))
    monkeypatch.delenv("TUTELAGE_DB", raising=False)
    run = Runs(Database.at_home(tmp_path), process=ELSEWHERE).start("d-1", "distill", "r", "", digest="abc")
    fence = Fence.raise_to(tmp_path / "runs", "d-1", run.fence, ELSEWHERE)
    fence.check()
    assert main(["runs", "release", "d"], stdout=io.StringIO(), stderr=io.StringIO()) == 0
    with pytest.raises(StoreError, match=f"run 'd-1' was taken by process {os.getpid()}"):
        fence.check()
