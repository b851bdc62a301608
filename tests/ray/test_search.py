"""Searches on Ray Tune: one pass of the teachers, failures that end nothing, and trials that go on."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from actors.session import Session
from actors.workspace import Workspace
from tests.ray import train_samples as sample
from tests.ray.processes import python
from tune_spaces.search.opened import TRIALS, open_search
from tune_spaces.search.records import Book
from tune_spaces.search.run import Searched, search
from tune_spaces.search.winner import is_own, winner_job
from tutelage.config import JobConfig
from tutelage.config.load import dump_yaml
from tutelage.errors import ConfigError
from tutelage.progress import Silent

pytestmark = pytest.mark.ray

RATE = {"type": "float", "low": 1e-4, "high": 1e-2, "log": True}
SOFTNESS = {"type": "float", "low": 1.0, "high": 8.0, "log": True}
DENSE = {"type": "choice", "values": [{"type": "auto"}, {"type": "dense", "dtype": "bf16"}]}
TEXTS = 160
"""Different train texts of the sample."""


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The tokenised job, with no signal in its store."""
    return sample.workspace(tmp_path_factory.mktemp("search"))


def with_search(place: Workspace, **wanted: Any) -> Workspace:
    data = place.job.model_dump(mode="json")
    data["train"]["checkpoint_every"] = None
    data["search"] = {**data["search"], "concurrent": 2, "warm_start": False, **wanted}
    return replace(place, job=JobConfig.model_validate(data))


def run(place: Workspace, cluster: Session, **wanted: Any) -> Searched:
    return search(open_search(with_search(place, **wanted), {}), Silent(), storage=str(place.home))


def test_teachers_are_asked_once_for_all_trials_and_a_failing_trial_ends_nothing(
    space: Workspace, cluster: Session
) -> None:
    """A weight of 3e38 makes the loss infinite; the second payload of teacher one is scored once more."""
    keys = {
        "objectives.kl.weight": {"type": "choice", "values": [1.0, 3e38]},
        "teachers.one.payload": DENSE,
        "train.lr": {"type": "choice", "values": [1e-3, 5e-3]},
    }
    wanted: dict[str, Any] = {
        "space": keys,
        "searcher": {"type": "grid"},
        "trials": 8,
        "scheduler": {"type": "none"},
    }
    found = run(space, cluster, **wanted)
    assert found.book.texts == {"one": 2 * TEXTS, "two": TEXTS}
    assert found.payloads == 1
    ended = {r.labels["objectives.kl.weight"]: set() for r in found.book.records.values()}  # type: ignore[var-annotated]
    for record in found.book.records.values():
        ended[record.labels["objectives.kl.weight"]].add(record.status)
    assert ended == {1.0: {"done"}, 3e38: {"failed"}}
    errors = {record.error for record in found.book.records.values() if record.error}
    assert all("the loss is" in error for error in errors)
    # The same command again has nothing to do; another search of the same job asks nobody.
    again = run(space, cluster, **wanted)
    assert again.reused
    assert again.book.records == found.book.records
    # Killed after its last trial, before it was closed: nothing is left to train, and it ends well.
    path = found.folder / TRIALS
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if '"close"' not in line))
    closed = run(space, cluster, **wanted)
    assert not closed.reused
    assert closed.book.records == found.book.records
    assert not list(found.folder.glob("tune/*/checkpoint_*"))


def test_a_population_changes_its_values_and_its_winner_can_be_trained_again(
    space: Workspace, cluster: Session
) -> None:
    """The winner's line of values, as one training in steps, gives the very same student."""
    found = run(
        space,
        cluster,
        space={
            "train.lr": RATE,
            "objectives.kl.temperature": SOFTNESS,
            "objectives.cross-entropy.weight": {"type": "choice", "values": [0.25, 0.5, 1.0]},
        },
        goals=["loss"],
        trials=4,
        searcher={"type": "random"},
        scheduler={"type": "pbt", "interval": 0.25, "resample": 0.0},
    )
    assert found.book.texts == {"one": 0, "two": 0}
    moved = [r for r in found.book.records.values() if len(lineage_of(r)) > 1]
    assert moved, "no trial took over another's weights"
    chosen = winner_job(space.job, found.space, moved[0])
    again = run(
        replace(space, job=chosen),
        cluster,
        space={"train.weight_decay": {"type": "choice", "values": [chosen.train.weight_decay, 0.5]}},
        searcher={"type": "grid"},
        scheduler={"type": "none"},
        trials=1,
    )
    (only,) = again.book.records.values()
    assert is_own(chosen, again.space, only)
    assert only.last["loss"] == moved[0].last["loss"]
    assert [p["loss"] for p in only.curve][-1] == moved[0].value("loss")


def lineage_of(record: Any) -> list[Any]:
    found: list[Any] = json.loads(record.last["lineage"])
    return found


LONG: dict[str, Any] = {
    "space": {"train.lr": {"type": "choice", "values": [1e-3, 5e-3]}},
    "searcher": {"type": "grid"},
    "scheduler": {"type": "fidelity", "least": 9},
    "trials": 2,
    "reports": 20,
    "budget": {"epochs": 6},
}
"""Two trials that take long enough to be killed."""


@pytest.fixture(scope="module")
def calm(space: Workspace, cluster: Session, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The curves of LONG when nobody disturbs it.

    From an empty store, as in the tests: a text that is scored beside other texts may differ in its last bit.
    """
    return curves(run(replace(space, home=tmp_path_factory.mktemp("calm")), cluster, **LONG).book)


def test_a_killed_trial_goes_on_from_its_last_report(
    space: Workspace, cluster: Session, tmp_path: Path, calm: list[Any]
) -> None:
    """SIGKILL for the processes of the trials: the same curve as a trial that nobody disturbed."""
    killed: list[int] = []

    def kill() -> None:
        wait_for_reports(tmp_path, 6)
        killed.extend(kill_trials())

    killer = threading.Thread(target=kill)
    killer.start()
    disturbed = run(replace(space, home=tmp_path), cluster, **LONG)
    killer.join()
    assert killed
    assert curves(disturbed.book) == calm


def test_a_killed_search_goes_on_where_it_was(
    space: Workspace, cluster: Session, tmp_path: Path, calm: list[Any]
) -> None:
    """SIGKILL for the command: repeated, it trains no step again that was reported, and finds the same."""
    job = tmp_path / "job.yaml"
    job.write_text(dump_yaml(with_search(space, **LONG).job))
    command = ("-m", "tutelage.cli", "tune", str(job), "--trials-only", "--json")
    places = {"RAY_ADDRESS": cluster.address, "TUTELAGE_HOME": str(tmp_path / "home")}
    with python(*command, **places) as process:
        wait_for_reports(tmp_path / "home", 6)
        process.kill()
        process.wait(20)
    path = next(tmp_path.glob("home/runs/*-tune-*/trials.jsonl"))
    reached = {record.id: record.last.get("step", 0) for record in Book(path).records.values()}
    before = len(path.read_text().splitlines())
    with python(*command, **places) as process:
        out, err = process.communicate(timeout=200)
        assert process.returncode == 0, err
    assert curves(Book(path)) == calm
    later = [json.loads(line) for line in path.read_text().splitlines()[before:]]
    trained = [(line["trial"], line["result"]["step"]) for line in later if line["event"] == "report"]
    assert trained
    # A report that the killed command may not have heard is made again; no step is trained again.
    assert all(step >= reached[trial] for trial, step in trained if trial in reached)
    assert json.loads(out)["best"] in reached


def curves(book: Book) -> list[Any]:
    """Each trial's reports, the trials by their rate."""
    records = sorted(book.records.values(), key=lambda record: record.labels["train.lr"])
    return [[(p["step"], p["loss"], p["fidelity"]) for p in record.curve] for record in records]


def wait_for_reports(home: Path, count: int) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        path = next(iter(home.glob("runs/*-tune-*/trials.jsonl")), None)
        if path is not None and path.read_text().count('"report"') >= count:
            return
        time.sleep(0.05)
    raise AssertionError("the trials do not report")


def kill_trials() -> list[int]:
    """SIGKILL for every trial that runs now."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any("ImplicitFunc" in word or "run_trial" in word for word in process.info["cmdline"] or []):
            os.kill(process.pid, signal.SIGKILL)
            found.append(process.pid)
    return found


def test_limits_that_no_student_keeps_name_the_nearest(space: Workspace, cluster: Session) -> None:
    with pytest.raises(ConfigError, match=r"no student keeps them; the nearest has latency_ms") as caught:
        run(
            space,
            cluster,
            space={"student.layers": {"type": "choice", "values": [[0], [0, 1]]}},
            searcher={"type": "grid"},
            limits={"size_mb": 1e-6},
            trials=2,
        )
    assert '{"student.layers"' in caught.value.problem or "student.layers" in caught.value.problem
