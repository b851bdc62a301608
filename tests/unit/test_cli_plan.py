"""`distill --plan`: what each teacher sends and why, how many texts are still to be scored, what it needs."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.distill import teacher_specs
from actors.evaluate import student_examples
from actors.payloads import planned, signal_folders
from actors.speeds import remember
from actors.workspace import Workspace, open_workspace
from tutelage.cli import plan
from tutelage.cli.console import Console
from tutelage.cli.plan import distill_plan, show_distill_plan
from tutelage.cli.plan_search import search_plan, show_search_plan
from tutelage.cli.probes import Probes
from tutelage.config import JobConfig
from tutelage.errors import ConfigError, DataError
from tutelage.progress import Silent
from tutelage.signals.packet import Column, Packet
from tutelage.signals.store.open import open_store
from tutelage.testing import LABELS, tiny_classifier, tiny_rows

pytestmark = pytest.mark.unit

ROWS = 40
NAMES = ("one", "two")


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Forty texts, two teachers, one of them elastic and on GPUs."""
    top = tmp_path_factory.mktemp("plan")
    files = tiny_rows(top / "rows", 60, ["books"])
    model = tiny_classifier(top / "student")
    other = tiny_classifier(top / "other", seed=5)
    elastic = {"min_replicas": 1, "max_replicas": 4, "num_cpus": 0.5, "num_gpus": 0.25}
    return {
        "name": "planned",
        "task": {"labels": list(LABELS)},
        "data": {
            "sources": {"books": {"path": files["books"], "splits": {"validation": 10, "test": 10}}},
            "max_tokens": 16,
        },
        "teachers": [{"name": "one", "model": model}, {"name": "two", "model": other, **elastic}],
        "student": {"model": model},
        "objectives": [{"type": "kl"}],
        "train": {"epochs": 3, "batch_size": 8, "micro_batch_size": 8, "cpus_per_worker": 1},
    }


@pytest.fixture(scope="module")
def space(job: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The job with nothing scored yet."""
    return opened(job, tmp_path_factory.mktemp("cold"))


def opened(job: dict[str, Any], folder: Path, **train: Any) -> Workspace:
    """The job in a folder of its own."""
    made = JobConfig.model_validate({**job, "train": {**job["train"], **train}})
    return open_workspace(made, folder, Silent())


def score(space: Workspace, teacher: str, texts: int) -> None:
    """Put signals of so many texts into a teacher's store."""
    specs = teacher_specs(space, {})
    payloads = {choice.teacher: choice.spec for choice in planned(space, {})}
    store = open_store(
        space.job.stream.store, Path(signal_folders(space.signals, specs, payloads)[teacher]), teacher
    )
    examples = student_examples(space)
    digests = list(dict.fromkeys(examples.digests(examples.select("train").rows)))[:texts]
    lengths = np.ones(len(digests), np.int32)
    store.put(digests, Packet(lengths, {"logits": Column(np.zeros((len(digests), 2), np.float32), lengths)}))
    store.flush()


def test_each_teacher_has_its_payload_bytes_and_needs(space: Workspace) -> None:
    plan = distill_plan(space, fresh=False)
    one, two = plan.teachers
    assert (one["teacher"], one["payload"], one["bytes a text"]) == ("one", "dense fp32", 8)
    assert (one["replicas"], one["needs"]) == ("1", "1 CPUs")
    assert (two["replicas"], two["needs"]) == ("1..4", "0.5..2 CPUs, 0.25..1 GPUs")
    (row,) = plan.rows
    assert row["needs"] == "2.5..4 CPUs, 0.25..1 GPUs"
    assert row["bytes a text"] == 16
    assert set(plan.reasons) == {"one", "two"}
    assert all(plan.reasons.values())


def test_a_cold_store_has_every_text_scored_once_whatever_the_epochs(space: Workspace) -> None:
    plan = distill_plan(space, fresh=False)
    assert [(row["texts to score"], row["calls"]) for row in plan.teachers] == 2 * [(ROWS, ROWS // 8)]
    assert plan.rows[-1]["teacher calls"] == 2 * ROWS // 8


def test_texts_in_the_store_are_not_scored_again(job: dict[str, Any], tmp_path: Path) -> None:
    space = opened(job, tmp_path)
    score(space, "one", ROWS)
    score(space, "two", ROWS - 9)
    plan = distill_plan(space, fresh=False)
    assert [(row["texts to score"], row["calls"]) for row in plan.teachers] == [(0, 0), (9, 2)]


def test_a_short_training_scores_what_it_reads(job: dict[str, Any], tmp_path: Path) -> None:
    plan = distill_plan(opened(job, tmp_path, max_steps=2), fresh=False)
    assert [row["texts to score"] for row in plan.teachers] == [16, 16]


def test_a_plan_makes_no_folder_of_signals(space: Workspace) -> None:
    distill_plan(space, fresh=False)
    assert not space.signals.exists()


def test_the_speed_of_the_last_training_is_told(job: dict[str, Any], tmp_path: Path) -> None:
    """300 texts in 2 s of work by one replica: 150 texts/s, and 600 for a fleet that may grow to four."""
    space = opened(job, tmp_path)
    remember(
        space.home,
        teacher_specs(space, {}),
        {n: {"calls": 20, "positions": 300, "worked_s": 2} for n in NAMES},
    )
    rows = distill_plan(space, fresh=False).teachers
    assert [(row["texts/s at most"], row["limited by"]) for row in rows] == [
        (150, "teacher"),
        (600, "teacher"),
    ]


@pytest.mark.parametrize("said", ["", "{}", '{"positions_s": 0}', '{"positions_s": "fast"}', "[1]"])
def test_a_speed_that_cannot_be_read_is_none(said: str, job: dict[str, Any], tmp_path: Path) -> None:
    """As is one of a few calls."""
    space = opened(job, tmp_path)
    specs = teacher_specs(space, {})
    remember(space.home, specs, {n: {"calls": 19, "positions": 300, "worked_s": 2} for n in NAMES})
    assert distill_plan(space, fresh=False).teachers[0]["texts/s at most"] is None
    remember(space.home, specs, {n: {"calls": 20, "positions": 300, "worked_s": 2} for n in NAMES})
    for file in (space.home / "speeds").iterdir():
        file.write_text(said)
    assert distill_plan(space, fresh=False).teachers[0]["texts/s at most"] is None


def test_json_holds_everything_and_people_read_each_reason_once(space: Workspace) -> None:
    plan = distill_plan(space, fresh=False)
    out, people = io.StringIO(), io.StringIO()
    show_distill_plan(Console(as_json=True, stdout=out, stderr=io.StringIO()), plan)
    answer = json.loads(out.getvalue())
    assert answer["teachers"][1]["reason"] == plan.reasons["two"]
    assert answer["plan"][0]["steps"] == 3 * ROWS // 8
    assert answer["data"]["sources"][0]["train"] == ROWS
    assert {"notes", "concerns", "leaks", "classes", "two_labels"} < set(answer["data"])
    show_distill_plan(Console(stdout=people, stderr=io.StringIO()), plan)
    text = people.getvalue()
    assert text.count(plan.reasons["one"]) == 1
    assert "0.5..2 CPUs, 0.25..1 GPUs" in text


def test_a_payload_that_cannot_be_is_refused_by_the_plan(job: dict[str, Any], tmp_path: Path) -> None:
    biased = {**job, "objectives": [{"type": "jsd"}]}
    biased["teachers"] = [{**job["teachers"][0], "payload": {"type": "sampled"}}]
    with pytest.raises(ConfigError, match="sampled"):
        distill_plan(opened(biased, tmp_path), fresh=False)


def test_a_search_is_planned_before_it_costs_anything(job: dict[str, Any], tmp_path: Path) -> None:
    """Keys with their values and the job's own, texts that are scored once, the steps of a trial."""
    rate = {"type": "float", "low": 1e-5, "high": 1e-3, "log": True}
    search = {"space": {"train.lr": rate}, "trials": 7, "budget": {"epochs": 1}, "cpus_per_trial": 2}
    space = opened({**job, "search": search}, tmp_path)
    score(space, "one", ROWS - 9)
    out = io.StringIO()
    show_search_plan(Console(as_json=True, stdout=out, stderr=io.StringIO()), search_plan(space))
    plan = json.loads(out.getvalue())
    assert plan["searched"] == [
        {"key": "train.lr", "values": "1e-05 to 0.001, logarithmic", "the job's own": "5e-05"}
    ]
    assert [(row["teacher"], row["to score"]) for row in plan["teachers"]] == [("one", 9), ("two", ROWS)]
    trials = next(row for row in plan["plan"] if row["step"] == "search")
    assert (trials["does"], trials["epochs"], trials["steps"]) == ("7 trials, tpe, asha", 1, ROWS // 8)
    assert not list((space.home / "runs").glob("*"))


def test_a_space_that_cannot_be_is_refused_by_its_plan(job: dict[str, Any], tmp_path: Path) -> None:
    space = opened(
        {**job, "search": {"space": {"train.lrr": {"type": "int", "low": 1, "high": 2}}}}, tmp_path
    )
    with pytest.raises(ConfigError, match="did you mean 'lr'"):
        search_plan(space)


def test_a_plan_without_teachers_says_that_labels_are_all_there_is(
    job: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is sent and nothing divided by the number of teachers."""
    alone = {**job, "teachers": [], "objectives": [{"type": "cross-entropy"}]}
    plan = distill_plan(opened(alone, tmp_path), fresh=False)
    assert (plan.teachers, plan.reasons) == ([], {})
    (row,) = plan.rows
    assert (row["rows"], row["needs"]) == (ROWS, "1 CPUs")
    assert "teacher calls" not in row
    show_distill_plan(Console(), plan)
    assert "no teachers: the student learns from the labels alone" in capsys.readouterr().out


def test_stopping_early_without_a_labelled_validation_row_is_refused_by_the_plan(
    job: dict[str, Any], tmp_path: Path
) -> None:
    """The training would say so after its models were loaded; the key that the advice names helps."""
    rows = tiny_rows(tmp_path / "rows", 40, ["books"])["books"]
    sources = {"books": {"path": rows, "splits": {"validation": 0, "test": 10}}}
    bare = {**job, "data": {**job["data"], "sources": sources}}
    stops = {"metric": "accuracy", "patience": 1}
    with pytest.raises(DataError, match=r"train\.early_stop watches validation rows") as caught:
        distill_plan(opened(bare, tmp_path, early_stop=stops), fresh=False)
    assert "train.early_stop=null" in caught.value.fix
    distill_plan(opened(bare, tmp_path, early_stop=None), fresh=False)


@pytest.mark.parametrize(("cpus", "says"), [(1, "1.5 of 2.5 CPUs"), (3, "")])
def test_cores_that_one_machine_lacks_are_told(
    job: dict[str, Any], tmp_path: Path, cpus: int, says: str
) -> None:
    """One worker, a teacher of a core and one of half a core stand on the machine at the same time."""
    space = opened({**job, "ray": {"num_cpus": cpus}}, tmp_path)
    assert distill_plan(space, fresh=False).rows[-1]["missing"].partition(":")[0] == says


@pytest.mark.parametrize(("quota", "says"), [("100000 100000", "1.5 of 2.5 CPUs"), ("max 100000", "")])
def test_a_container_has_the_cores_of_its_quota(
    job: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, says: str
) -> None:
    """The machine's cores are no use to a container that may use one of them, as doctor says too."""
    probes = Probes(cores=64, read=lambda path: quota if path == "/sys/fs/cgroup/cpu.max" else None)
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setattr(plan, "Probes", lambda: probes, raising=False)
    assert distill_plan(opened(job, tmp_path), fresh=False).rows[-1]["missing"].partition(":")[0] == says
