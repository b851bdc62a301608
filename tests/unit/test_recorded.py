"""A command that holds runs: it ends them as they ended, and stops when another process takes one."""

from __future__ import annotations

import io
import threading
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from actors import distill as distilling
from actors import finetune as finetuning
from actors import workspace
from tests.unit.config_sample import write
from tutelage.cli import steps
from tutelage.cli.console import Console
from tutelage.cli.steps import Job, recorded
from tutelage.config.load import load_job
from tutelage.errors import StoreError, TrainError
from tutelage.files import atomic_write
from tutelage.holder import Fence
from tutelage.registry import leases, open_registry, sqlite
from tutelage.run_log import lines_of

pytestmark = pytest.mark.unit


@pytest.fixture
def job(tmp_path: Path) -> Job:
    file = write(tmp_path)
    return Job(load_job(file, []), Console(stderr=io.StringIO()), tmp_path, open_registry(tmp_path))


def status(job: Job, run: str = "d-1") -> Any:
    return open_registry(job.home).runs.get(run)


def test_the_end_of_a_run_and_its_figures_are_kept(job: Job) -> None:
    with recorded(job, "distill", ["d-1", "d-2"]) as figures:
        assert status(job).status == "running"
        figures["d-1"] = {"loss": 0.5}
    assert (status(job).status, status(job).figures) == ("done", {"loss": 0.5})
    assert status(job, "d-2").status == "done"


@pytest.mark.parametrize(
    ("error", "ends"), [(TrainError("x"), "failed"), (KeyboardInterrupt(), "interrupted")]
)
def test_what_stops_a_run_is_kept_and_stands_in_its_log(job: Job, error: BaseException, ends: str) -> None:
    with pytest.raises(type(error)), recorded(job, "distill", ["d-1"]):
        raise error
    assert status(job).status == ends
    assert ends in lines_of(job.home / "runs" / "d-1")[-1]["text"]


def test_a_second_command_is_refused_and_ends_nothing_of_the_first(job: Job) -> None:
    other = Job(job.loaded, job.console, job.home, open_registry(job.home))
    with recorded(job, "distill", ["d-1"]):
        with (
            pytest.raises(StoreError, match="is held by process"),
            recorded(other, "distill", ["d-0", "d-1"]),
        ):
            raise AssertionError("the body does not run")
        assert status(job).status == "running"
        assert status(job, "d-0").status == "failed"
    assert status(job).status == "done"


def test_a_command_whose_run_is_taken_stops_where_it_waits(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "BEAT_S", 0.02)

    def work() -> None:
        with recorded(job, "distill", ["d-1"]):
            open_registry(job.home).runs.release("d-1")
            threading.Event().wait(60)
            raise AssertionError("it was not stopped")

    with pytest.raises(StoreError, match="'d-1' was taken from this process"):
        work()
    assert status(job).status == "interrupted"


def test_a_fence_is_raised_while_nobody_else_can_take_the_run(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a holder that pauses before it writes its number never writes it over a newer one."""
    with pytest.raises(TrainError), recorded(job, "distill", ["d-1"]):
        raise TrainError("x")
    monkeypatch.setattr(sqlite, "WRITE_S", 0)
    other = open_registry(job.home).runs
    tried = []

    def slow(path: Path) -> Any:
        tried.append(path.name)
        with pytest.raises(StoreError, match="locked"):
            other.start("d-1", "distill", "reviews", "", digest="abc")
        return atomic_write(path)

    monkeypatch.setattr("tutelage.holder.atomic_write", slow)
    with recorded(job, "distill", ["d-1"]):
        fence = Fence.of(job.home / "runs", "d-1")
        assert fence is not None
        fence.check()
        assert fence.number == status(job).fence == 2
    assert tried == ["d-1.json"]


@pytest.mark.parametrize("error", [None, TrainError("the real one")])
def test_one_end_that_cannot_be_recorded_costs_neither_the_others_nor_the_real_error(
    job: Job, error: TrainError | None
) -> None:
    """The first of three is taken before a beat would tell: the others end, and one error comes."""

    def work() -> None:
        with recorded(job, "distill", ["d-1", "d-2", "d-3"]):
            open_registry(job.home).runs.release("d-1")
            if error:
                raise error

    with pytest.raises(TrainError if error else StoreError, match="the real one" if error else "d-1"):
        work()
    ends = "failed" if error else "done"
    assert [status(job, run).status for run in ("d-2", "d-3")] == [ends, ends]


def test_a_run_that_is_lost_while_its_body_ends_is_no_success(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal may come too late for the body: the command says what happened all the same."""
    gone = threading.Event()
    monkeypatch.setattr(leases, "BEAT_S", 0.02)
    monkeypatch.setattr(steps, "interrupt_main", gone.set)

    def work() -> None:
        with recorded(job, "distill", ["d-1"]):
            open_registry(job.home).runs.release("d-1")
            assert gone.wait(30)

    with pytest.raises(StoreError, match="'d-1' was taken from this process"):
        work()


@pytest.mark.parametrize("lacks", ["judgement", "end", "nothing"])
def test_a_distillation_that_died_before_its_end_is_ended_by_the_same_command(
    job: Job, monkeypatch: pytest.MonkeyPatch, lacks: str
) -> None:
    """Its weights are there: what is missing is made under a lease, and the run is done afterwards."""
    seen: list[str] = []

    def distill(*_given: Any, **_named: Any) -> Any:
        seen.append(status(job).status)
        return SimpleNamespace(result={"points": [], "steps": 3})

    monkeypatch.setattr(distilling, "teacher_specs", lambda *_: [])
    monkeypatch.setattr(distilling, "distill", distill)
    monkeypatch.setattr(workspace, "distill_run", lambda *_: "d-1")
    model = job.home / "runs" / "d-1" / "model"
    model.mkdir(parents=True)
    (model / "result.json").write_text("{}")
    if lacks != "judgement":
        (model.parent / distilling.JUDGEMENT).write_text("{}")
    with suppress(TrainError), recorded(job, "distill", ["d-1"]):
        if lacks == "end":
            raise TrainError("killed")
    space: Any = SimpleNamespace(runs=job.home / "runs")
    session: Any = SimpleNamespace(storage="")
    steps.make_student(job, space, session, {})
    assert seen == ["done" if lacks == "nothing" else "running"]
    assert status(job).status == "done"


def test_a_fine_tuning_that_died_before_its_end_is_ended_by_the_same_command(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = SimpleNamespace(run="f-1", result={"points": []})
    monkeypatch.setattr(finetuning, "finetune_plan", lambda *_: [(None, "f-1", True)])
    monkeypatch.setattr(finetuning, "finetune", lambda *_, **__: {"one": made})
    with pytest.raises(TrainError), recorded(job, "finetune", ["f-1"]):
        raise TrainError("killed")
    space: Any = SimpleNamespace()
    session: Any = SimpleNamespace(storage="")
    steps.make_teachers(job, space, session)
    assert status(job, "f-1").status == "done"
