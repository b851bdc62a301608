"""What a search refuses before anything costs time, and the one pass of the teachers."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from actors.distill import student_training, teacher_specs
from actors.members import FixedMembers, Members
from actors.on_demand import FleetOnDemand, Scored
from actors.replica import LocalReplica
from actors.scorer import make_scorer
from actors.scoring import check_store, score, texts_of
from actors.workspace import Workspace, open_workspace
from tests.unit.tune_samples import RATE
from tune_spaces.search.gate import Gate
from tune_spaces.search.opened import TRIALS, open_search, searched_space
from tune_spaces.search.records import Book
from tune_spaces.search.run import _asking, _contained, pick
from tune_spaces.search.terms import check_terms
from tutelage.config import JobConfig
from tutelage.config.search import SearchConfig
from tutelage.errors import ConfigError, ModelError, TeacherError
from tutelage.progress import Silent
from tutelage.testing import LABELS, tiny_classifier, tiny_rows

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """40 train rows, 10 for validation, two teachers."""
    top = tmp_path_factory.mktemp("search")
    files = tiny_rows(top / "rows", 60, ["books"])
    student = tiny_classifier(top / "student")
    job = {
        "name": "small",
        "task": {"labels": list(LABELS)},
        "data": {
            "sources": {"books": {"path": files["books"], "splits": {"validation": 10, "test": 10}}},
            "max_tokens": 16,
        },
        "teachers": [{"name": name, "model": student} for name in ("one", "two")],
        "student": {"model": student},
        "objectives": [{"type": "kl"}],
        "search": {"space": {"train.lr": RATE}},
    }
    return open_workspace(JobConfig.model_validate(job), top / "home", Silent())


def other(space: Workspace, **sections: Any) -> Workspace:
    data = {**space.job.model_dump(mode="json"), **sections}
    return replace(space, job=JobConfig.model_validate(data))


@pytest.mark.parametrize(
    "key",
    ["seed", "data.max_tokens", "teachers.one.model", "student.model", "stream.window", "serve.threads"],
)
def test_what_all_trials_share_is_not_searched(space: Workspace, key: str) -> None:
    keys = {key: {"type": "choice", "values": [1, 2]}}
    with pytest.raises(ConfigError, match="is the same for all trials") as caught:
        searched_space(other(space, search={"space": keys}))
    assert key in caught.value.problem


def test_payloads_of_teachers_may_be_searched(space: Workspace) -> None:
    keys = {"teachers.one.payload.type": {"type": "choice", "values": ["auto", "dense"]}}
    assert list(searched_space(other(space, search={"space": keys})).keys) == list(keys)


def test_a_metric_that_no_trial_can_report_is_refused(space: Workspace) -> None:
    sources = {"books": {**space.job.model_dump(mode="json")["data"]["sources"]["books"]}}
    sources["books"]["columns"] = {**sources["books"]["columns"], "label": None}
    job = JobConfig.model_validate(
        {**space.job.model_dump(mode="json"), "data": {"sources": sources, "max_tokens": 16}}
    )
    with pytest.raises(
        ConfigError, match="no trial can report accuracy, since no validation row has a label"
    ):
        searched_space(open_workspace(job, space.home, Silent()))


def test_the_gate_refuses_what_cannot_be_trained(space: Workspace) -> None:
    keys = {"student.layers": {"type": "choice", "values": [[0], [7]]}}
    mine = other(space, search={"space": keys})
    gate = Gate(mine, searched_space(mine), {})
    assert gate({"student.layers": "[0]"}).refused == ""
    assert "student.layers [7]" in gate({"student.layers": "[7]"}).refused


def test_a_student_over_the_limits_is_refused_and_the_nearest_is_known(space: Workspace) -> None:
    """The measuring itself is tested with the exporter; here a second layer costs 2 ms."""
    keys = {"student.layers": {"type": "choice", "values": [[0], [0, 1]]}}
    mine = other(space, search={"space": keys, "limits": {"latency_ms": 0.5}})
    gate = Gate(mine, searched_space(mine), {})
    gate.cost = lambda job, **_: {"latency_ms": 2.0 * len(job.student.layers), "size_mb": 1.0}  # type: ignore[method-assign]
    assert gate({"student.layers": "[0, 1]"}).refused == "latency_ms is 4, the limit is 0.5"
    assert "latency_ms is 2" in gate({"student.layers": "[0]"}).refused
    assert gate.near_miss is not None
    assert gate.near_miss[:2] == (4.0, {"student.layers": "[0]"})


def test_each_text_is_scored_once_and_what_is_there_is_not_asked(space: Workspace) -> None:
    specs = teacher_specs(space, {})
    training = student_training(space, specs, "pass", "", {})
    members: dict[str, Members] = {
        spec.name: FixedMembers([LocalReplica(make_scorer(spec))]) for spec in specs
    }
    told: list[tuple[float, float]] = []
    first = score(training, members, lambda done, total: told.append((done, total)), follow=True)
    texts = texts_of(training, follow=True)
    assert first.texts == {"one": texts, "two": texts}
    assert told[-1] == (texts, texts)
    nobody: dict[str, Members] = {spec.name: Scored(spec.name) for spec in specs}
    again = score(training, nobody, follow=True)
    assert texts_of(training, follow=False) == texts - 10
    assert set(again.calls.values()) == {0}
    assert (first + again).texts == first.texts


def test_a_fleet_on_demand_starts_when_it_is_asked() -> None:
    started = []

    class Fake:
        members = {"one": FixedMembers([])}  # noqa: RUF012

        def stop(self) -> None:
            started.append("stopped")

    fleet = FleetOnDemand(lambda: started.append("started") or Fake(), {"one": 512})  # type: ignore[arg-type, func-returns-value]
    assert fleet.members["one"].batch_tokens == 512
    fleet.stop()
    assert started == []
    assert fleet.members["one"].current().broken
    assert started == ["started"]
    fleet.stop()
    assert started == ["started", "stopped"]


def test_a_teacher_that_is_asked_after_its_pass_is_an_error() -> None:
    with pytest.raises(TeacherError, match="'one' is not in the store any more"):
        Scored("one").current()


@pytest.mark.parametrize(
    ("store", "words"),
    [
        ({"enabled": False}, "every trial would ask every teacher again"),
        ({"max_gb": 1e-9}, "would be asked again"),
    ],
)
def test_a_store_that_cannot_hold_the_signals_is_refused(
    space: Workspace, store: dict[str, Any], words: str
) -> None:
    mine = other(space, stream={"store": store})
    with pytest.raises(ConfigError, match=words):
        check_store(student_training(mine, teacher_specs(mine, {}), "pass", "", {}), follow=False)


def test_the_winner_ran_to_its_end_and_keeps_the_limits_where_one_does(tmp_path: Path) -> None:
    book = Book(tmp_path / "trials.jsonl")
    config = SearchConfig.model_validate({"goals": ["loss"], "limits": {"accuracy_min": 0.7}})
    assert pick(book, config) is None
    for name, accuracy, loss, progress in (
        ("halfway", 0.9, 0.1, 50),
        ("weak", 0.6, 0.2, 100),
        ("good", 0.8, 0.3, 100),
    ):
        book.begin(name, {}, {})
        result = {"status": "ran", "step": 1, "progress": progress, "accuracy": accuracy, "loss": loss}
        book.report(name, result)
        book.end(name)
    chosen = [pick(book, config), pick(book, SearchConfig(goals=["loss"]))]
    assert [one.id for one in chosen if one] == ["good", "weak"]


def test_tune_leaves_neither_its_handler_of_ctrl_c_nor_its_variables() -> None:
    before = signal.getsignal(signal.SIGINT), dict(os.environ)
    with _contained():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        assert os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] == "1"
    assert (signal.getsignal(signal.SIGINT), dict(os.environ)) == before


def test_a_search_begins_with_the_job_as_it_is_and_the_best_that_is_known(space: Workspace) -> None:
    mine = other(space, search={"space": {"train.lr": RATE}})
    opened = open_search(mine, {})
    gate = Gate(mine, opened.searched, {})
    first, _ = _asking(opened, gate)
    assert first.suggest("t0") == {"train.lr": 5e-5}
    earlier = open_search(other(space, search={"space": {"train.lr": RATE}, "trials": 3}), {})
    check_terms(earlier.terms, earlier.folder)
    book = Book(earlier.folder / TRIALS)
    for name, lr, accuracy in (("a", 1e-4, 0.9), ("b", 2e-4, 0.6)):
        book.begin(name, {"train.lr": lr}, {})
        book.report(name, {"status": "ran", "step": 1, "progress": 100, "accuracy": accuracy, "loss": 1.0})
        book.end(name)
    warm, notes = _asking(opened, gate)
    assert [warm.suggest(f"t{n}") for n in range(2)] == [{"train.lr": 5e-5}, {"train.lr": 1e-4}]
    assert notes == ["begins with 2 trials and 0 guesses of earlier searches"]
    cold = other(space, search={"space": {"train.lr": RATE}, "warm_start": False})
    assert _asking(open_search(cold, {}), gate)[1] == []


def test_a_student_of_another_architecture_is_what_is_trained(space: Workspace) -> None:
    shape = {"family": "albert", "depth": 2, "width": 16, "heads": 2}
    student = {**space.job.model_dump(mode="json")["student"], "architecture": shape}
    mine = other(space, student=student)
    training = student_training(mine, teacher_specs(mine, {}), "shape", "", {})
    model = training.model()
    assert (model.config.model_type, model.config.hidden_size) == ("albert", 16)


def test_a_student_whose_shape_cannot_be_is_refused_before_any_training(space: Workspace) -> None:
    job = space.job.model_dump(mode="json")
    job["student"]["architecture"] = {"family": "brt", "depth": 2, "width": 16, "heads": 2}
    with pytest.raises(ModelError, match="no 'brt'"):
        open_workspace(JobConfig.model_validate(job), space.home, Silent())
