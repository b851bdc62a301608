"""A workspace checks everything before anything is trained, and names runs by what decides them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from actors.fitting import tokenizer_of
from actors.workspace import (
    Workspace,
    distill_run,
    finetune_run,
    finished,
    forget,
    open_workspace,
)
from tutelage.config import JobConfig
from tutelage.errors import DataError, ModelError
from tutelage.progress import Silent
from tutelage.testing import LABELS, tiny_classifier, tiny_rows

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows, a student, and a teacher with its classes the other way round."""
    top = tmp_path_factory.mktemp("workspace")
    tiny_rows(top / "rows", 30, ["books", "shop"])
    tiny_classifier(top / "student")
    tiny_classifier(top / "critic", LABELS[::-1], seed=3, architecture="distilbert")
    return top


def content(folder: Path, **changes: Any) -> dict[str, Any]:
    sources = {name: {"path": str(folder / "rows" / f"{name}.jsonl")} for name in ("books", "shop")}
    whole = {
        "name": "small",
        "task": {"labels": list(LABELS)},
        "data": {"sources": sources, "max_tokens": 16},
        "teachers": [
            {"name": "critic", "model": str(folder / "critic")},
            {"name": "pupil", "model": str(folder / "student"), "finetune": {"data": {"books": {}}}},
        ],
        "student": {"model": str(folder / "student"), "layers": [0]},
        "objectives": [{"type": "kl"}],
    }
    return whole | changes


def opened(folder: Path, home: Path, **changes: Any) -> Workspace:
    return open_workspace(JobConfig.model_validate(content(folder, **changes)), home, Silent())


@pytest.fixture
def space(folder: Path, tmp_path: Path) -> Workspace:
    return opened(folder, tmp_path)


def test_an_open_workspace_holds_the_cards_the_rows_and_one_file_of_tokens_a_tokenizer(
    space: Workspace, folder: Path
) -> None:
    assert space.student.folder == str(folder / "student")
    assert space.bases["critic"].labels == list(LABELS[::-1])
    assert space.rows.counts["books"] == {"train": 24, "validation": 3, "test": 3}
    # A teacher that is asked in text needs no tokens; the other one shares the student's.
    assert list(space.tokens) == [str(folder / "student")]
    assert space.tokens_of(str(folder / "student")).is_file()
    assert space.runs == space.home / "runs"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"student": {"model": "{folder}/none"}}, "none"),
        ({"student": {"model": "{folder}/student", "layers": [2]}}, r"student\.layers \[2\]"),
        ({"data": {"sources": {"books": {"path": "{folder}/rows/books.jsonl"}}, "max_tokens": 65}}, "65"),
        ({"teachers": [{"name": "critic", "model": "{folder}/critic", "max_tokens": 65}]}, "critic.*65"),
        ({"task": {"labels": ["bad", "good"]}}, r"knows \['positive', 'negative'\]"),
    ],
    ids=["no folder", "no such layer", "student too short", "teacher too short", "other labels"],
)
def test_a_model_that_does_not_fit_is_refused_before_any_row_is_read(
    folder: Path, tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    changed = json.loads(json.dumps(changes).replace("{folder}", str(folder)))
    if "data" in changes:
        changed["teachers"] = []
        changed["objectives"] = [{"type": "cross-entropy"}]
    with pytest.raises(ModelError, match=problem):
        opened(folder, tmp_path, **changed)
    assert not (tmp_path / "rows").exists()


def test_rows_that_are_not_there_are_an_error_of_the_data(folder: Path, tmp_path: Path) -> None:
    sources = {"books": {"path": str(folder / "rows" / "none.jsonl")}}
    with pytest.raises(DataError, match=r"none\.jsonl"):
        opened(folder, tmp_path, data={"sources": sources, "max_tokens": 16})


def test_the_tokenizer_is_the_configured_one_or_the_models_own(space: Workspace, folder: Path) -> None:
    assert tokenizer_of(None, space.student, space.home) == str(folder / "student")
    assert tokenizer_of(str(folder / "critic"), space.student, space.home) == str(folder / "critic")


# Runs


def test_the_same_job_gives_the_same_runs_wherever_its_home_is(
    space: Workspace, folder: Path, tmp_path: Path
) -> None:
    again = opened(folder, tmp_path / "elsewhere")
    marks = {"critic": "a", "pupil": "b"}
    pupil = space.job.teachers[1]
    assert distill_run(again, marks) == distill_run(space, dict(reversed(marks.items())))
    assert finetune_run(again, pupil) == finetune_run(space, pupil)
    assert distill_run(space, marks).startswith("small-distill-")
    assert finetune_run(space, pupil).startswith("small-finetune-pupil-")


def test_what_decides_a_fine_tuning_gives_it_another_run(
    space: Workspace, folder: Path, tmp_path: Path
) -> None:
    pupil = space.job.teachers[1]
    runs = {finetune_run(space, pupil)}
    runs.add(finetune_run(opened(folder, tmp_path, seed=1), pupil))
    longer = content(folder)
    longer["data"]["max_tokens"] = 24
    runs.add(finetune_run(opened(folder, tmp_path, **longer), pupil))
    longer["teachers"][1]["finetune"]["train"] = {"lr": 1e-3}
    other = JobConfig.model_validate(longer).teachers[1]
    runs.add(finetune_run(space, other))
    runs.add(finetune_run(replace(space, bases=space.bases | {"pupil": space.bases["critic"]}), pupil))
    assert len(runs) == 5


def test_what_does_not_decide_a_fine_tuning_leaves_its_run(
    space: Workspace, folder: Path, tmp_path: Path
) -> None:
    """The student and its training are no business of a teacher's."""
    other = opened(folder, tmp_path, train={"epochs": 9}, student={"model": str(folder / "student")})
    pupil = space.job.teachers[1]
    assert finetune_run(other, pupil) == finetune_run(space, pupil)


@pytest.mark.parametrize(
    "place",
    [{"cpus_per_worker": 2.0}, {"gpus_per_worker": 0.5}, {"threads": 3}, {"max_failures": 7}],
    ids=str,
)
def test_where_a_fine_tuning_runs_leaves_its_run(space: Workspace, place: dict[str, Any]) -> None:
    pupil = space.job.teachers[1]
    assert pupil.finetune is not None
    train = pupil.finetune.train.model_copy(update=place)
    moved = pupil.model_copy(update={"finetune": pupil.finetune.model_copy(update={"train": train})})
    assert finetune_run(space, moved) == finetune_run(space, pupil)


def test_another_teacher_or_setting_gives_a_distillation_another_run(
    space: Workspace, folder: Path, tmp_path: Path
) -> None:
    marks = {"critic": "a", "pupil": "b"}
    runs = {distill_run(space, marks), distill_run(space, marks | {"critic": "c"})}
    runs.add(distill_run(opened(folder, tmp_path, train={"epochs": 9}), marks))
    runs.add(distill_run(opened(folder, tmp_path, student={"model": str(folder / "student")}), marks))
    assert len(runs) == 4


def test_a_run_is_finished_when_its_result_is_there_and_can_be_forgotten(space: Workspace) -> None:
    model = space.runs / "small-run" / "model"
    assert finished(space, "small-run") is None
    model.mkdir(parents=True)
    assert finished(space, "small-run") is None
    (model / "result.json").write_text('{"steps": 3}')
    assert finished(space, "small-run") == {"steps": 3}
    forget(space, "small-run")
    assert finished(space, "small-run") is None
    assert not model.parent.exists()
    forget(space, "small-run")
