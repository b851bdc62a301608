"""Teachers and students are judged on the right rows, in the right order.

Shapes: N examples, C classes, K teachers.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from actors.evaluate import (
    Asked,
    Judgement,
    batches_of,
    judge_teachers,
    labelled_rows,
    measure_teachers,
    student_examples,
)
from actors.finetune import Finetuned, judge_made
from actors.judge_student import judge_student
from actors.members import FixedMembers
from actors.replica import LocalReplica
from actors.tally import Scores, Tally, in_order
from actors.teacher import ScriptedTeacher, Teacher, TeacherSpec
from actors.workspace import Workspace, open_workspace
from tutelage.config import JobConfig
from tutelage.errors import DataError
from tutelage.models.load import load_classifier, load_tokenizer
from tutelage.progress import Silent, Table
from tutelage.tasks import blank
from tutelage.testing import LABELS, tiny_classifier, tiny_rows

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def _one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """A student is judged on all cores of the machine, which for rows this small takes far longer."""
    monkeypatch.setattr("os.cpu_count", lambda: 1)


class Quiet:
    """A stage that nobody looks at."""

    def update(self, done: float, total: float, **figures: float | str) -> None:
        assert 0 <= done <= total

    def note(self, text: str) -> None:
        pass

    def table(self, table: Table) -> None:
        pass


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Two domains of 60 rows, a third of them for validation and a third for the test."""
    top = tmp_path_factory.mktemp("evaluate")
    files = tiny_rows(top / "rows", 60, ["books", "shop"])
    splits = {"validation": 20, "test": 20}
    sources: dict[str, Any] = {name: {"path": path, "splits": splits} for name, path in files.items()}
    student = tiny_classifier(top / "student")
    other = tiny_classifier(top / "other", LABELS[::-1], seed=9)
    job = {
        "name": "small",
        "task": {"labels": list(LABELS)},
        "data": {"sources": sources, "max_tokens": 16},
        "teachers": [{"name": "one", "model": student}, {"name": "two", "model": other}],
        "student": {"model": student},
        "combiner": {"type": "validated", "sharpness": 8},
        "objectives": [{"type": "kl"}],
    }
    return open_workspace(JobConfig.model_validate(job), top, Silent())


def spec(space: Workspace, name: str, order: tuple[int, ...]) -> TeacherSpec:
    folder = space.bases[name].folder
    return TeacherSpec(name, folder, folder, order, max_tokens=16, threads=1, fingerprint=name)


@pytest.fixture
def asked(space: Workspace, tmp_path: Path) -> Asked:
    """Both teachers in this process; the second one's classes stand the other way round."""
    specs = [spec(space, "one", (0, 1)), spec(space, "two", (1, 0))]
    members: Any = {one.name: FixedMembers([LocalReplica(Teacher(one))]) for one in specs}
    return Asked(space, specs, members, tmp_path)


def all_logits(asked: Asked, split: str) -> np.ndarray:
    """Logits [K, N, C] of the labelled rows as they come through the stream, in file order."""
    examples = student_examples(asked.space)
    rows = labelled_rows(examples, split)
    found = np.full((len(asked.specs), len(rows), 2), np.nan, np.float32)
    for batch, _, signals in asked.heard(examples, rows, Quiet()):
        places = np.searchsorted(np.sort(rows), batch.rows)
        for k, signal in enumerate(signals):
            found[k, places] = signal.logits_PV.numpy()
    return found


def plain_logits(asked: Asked, k: int, split: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Logits [N, C] of each labelled row alone, in file order; labels and slices beside them."""
    examples = student_examples(asked.space)
    rows = labelled_rows(examples, split)
    one = asked.specs[k]
    model, tokenizer = load_classifier(one.model), load_tokenizer(one.tokenizer)
    with torch.no_grad():
        found = [model(**tokenizer([text], return_tensors="pt")).logits for text in examples.texts(rows)]
    logits_NC = torch.cat(found)[:, list(one.label_order)].numpy()
    return logits_NC, examples.labels(rows), examples.slices(rows)


def test_batches_hold_every_row_once_shortest_first(space: Workspace) -> None:
    examples = student_examples(space)
    rows = labelled_rows(examples, "test")
    found = np.concatenate([batch.rows for batch in batches_of(examples, rows, 0)])
    assert np.array_equal(np.sort(found), np.sort(rows))
    lengths = examples.lengths(found)
    assert (np.diff(lengths) >= 0).all()


def test_the_logits_of_teachers_stand_in_the_order_of_the_rows(asked: Asked) -> None:
    logits_KNC = all_logits(asked, "test")
    assert logits_KNC.shape == (2, 40, 2)
    for k in range(2):
        np.testing.assert_allclose(logits_KNC[k], plain_logits(asked, k, "test")[0], rtol=1e-4, atol=1e-5)


def test_a_second_judgement_asks_nobody_but_the_parity_probe(asked: Asked) -> None:
    scripted = ScriptedTeacher(lambda text: [float(len(text)), 0.0], "one")
    counted = replace(
        asked,
        specs=asked.specs[:1],
        members={"one": FixedMembers([LocalReplica(scripted)])},
    )
    first = all_logits(counted, "test")
    calls = scripted.calls
    assert calls == 2
    assert np.array_equal(all_logits(counted, "test"), first)
    assert scripted.calls == calls


def test_measured_is_the_mean_negative_log_likelihood_of_each_slice(asked: Asked) -> None:
    measured = measure_teachers(asked, Quiet())
    assert list(measured) == ["books", "shop"]
    for k, name in enumerate(asked.names):
        logits_NC, labels, slices = plain_logits(asked, k, "validation")
        log_NC = torch.log_softmax(torch.from_numpy(logits_NC), -1).numpy()
        for part in measured:
            own = [-log_NC[n, labels[n]] for n in range(len(labels)) if slices[n] == part]
            assert len(own) == 20
            assert measured[part][name] == pytest.approx(np.mean(own), rel=1e-4)


def test_without_labelled_validation_rows_there_is_nothing_to_measure(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.evaluate.labelled_rows", lambda examples, split: np.empty(0, np.int64))
    with pytest.raises(DataError, match="combiner 'validated' goes by labelled validation rows") as caught:
        measure_teachers(asked, Quiet())
    assert "combiner.type=uniform" in caught.value.fix


def test_a_judgement_scores_each_teacher_the_ensemble_and_the_combiner(asked: Asked) -> None:
    measured = measure_teachers(asked, Quiet())
    found = judge_teachers(asked, measured, Quiet())
    probabilities = []
    for k, name in enumerate(asked.names):
        logits_NC, labels, slices = plain_logits(asked, k, "test")
        probabilities.append(torch.softmax(torch.from_numpy(logits_NC), -1).numpy())
        right = logits_NC.argmax(-1) == labels
        expected = {p: float(right[np.array(slices) == p].mean()) for p in ("books", "shop")}
        scores = found.teachers[name]
        assert (scores.by_slice, scores.examples, scores.metric) == (expected, 40, "accuracy")
        assert scores.mean == pytest.approx(np.mean(list(expected.values())))
        assert scores.values["nll"] == pytest.approx(
            float(
                torch.nn.functional.cross_entropy(
                    torch.from_numpy(logits_NC), torch.from_numpy(labels).long()
                )
            ),
            rel=1e-4,
        )
    ensemble = np.mean(probabilities, axis=0).argmax(-1) == labels
    assert found.uniform is not None
    assert found.uniform.mean == pytest.approx(ensemble.mean())
    for part in ("books", "shop"):
        weights = found.weights[part]
        assert sum(weights.values()) == pytest.approx(1)
        raw = {name: np.exp(-8 * measured[part][name]) for name in asked.names}
        assert weights["one"] == pytest.approx(raw["one"] / sum(raw.values()), rel=1e-4)
    assert found.parity == 0.0
    assert (found.parity_same_label, found.parity_examples) == (1.0, 40)
    assert Judgement.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_a_replica_with_other_weights_shows_in_the_parity(asked: Asked) -> None:
    """The fleet answers as teacher two, the local teacher is teacher one."""
    wrong = replace(asked, members=asked.members | {"one": asked.members["two"]})
    found = judge_teachers(wrong, measure_teachers(wrong, Quiet()), Quiet())
    assert found.parity is not None
    assert found.parity > 0.01


def test_without_teachers_there_is_no_judgement_to_make(asked: Asked) -> None:
    found = judge_teachers(replace(asked, specs=[], members={}), {}, Quiet())
    assert (found.teachers, found.uniform, found.combined, found.parity) == ({}, None, None, None)
    assert Judgement.from_json(found.to_json()) == found


def test_a_student_is_scored_on_the_labelled_test_rows(asked: Asked) -> None:
    """The student is the model of teacher one, so their scores are the same."""
    judged = judge_student(asked.space, Path(asked.space.student.folder))
    teacher = judge_teachers(asked, measure_teachers(asked, Quiet()), Quiet()).teachers["one"]
    assert judged.scores().by_slice == teacher.by_slice
    probe = judged.probe()
    assert probe.logits_NC.shape == (40, 2)
    assert sum(len(ids_BT) for ids_BT, _ in probe.batches) == 40
    assert probe.labels == list(LABELS)


@pytest.mark.parametrize(
    "splits", [{"validation": 20, "test": 0}, {"validation": 0, "test": 0}], ids=["no test", "train alone"]
)
def test_a_job_without_test_rows_has_no_scores_but_its_teachers_and_exports_are_still_compared(
    space: Workspace, asked: Asked, tmp_path: Path, splits: dict[str, int]
) -> None:
    """Teachers that are given need no label anywhere."""
    files = tiny_rows(tmp_path / "rows", 60, ["books"])
    source = {"path": files["books"], "splits": splits, "columns": {"label": None}}
    job = space.job.model_dump(mode="json") | {"data": {"sources": {"books": source}, "max_tokens": 16}}
    job["combiner"] = {"type": "uniform"}
    bare = open_workspace(JobConfig.model_validate(job), tmp_path, Silent())
    found = judge_teachers(replace(asked, space=bare), {}, Quiet())
    assert (found.teachers, found.uniform, found.combined, found.weights) == ({}, None, None, {})
    assert found.parity == 0.0
    assert found.parity_examples == (20 if splits["validation"] else 60)
    judged = judge_student(bare, Path(bare.student.folder))
    assert judged.scores() == Scores({}, None, 0)
    assert len(judged.probe().logits_NC) == (20 if splits["validation"] else 60)
    assert Judgement.from_json(found.to_json()) == found


def test_each_slice_counts_the_same_in_the_mean(space: Workspace) -> None:
    """Two batches, three rows of one slice and one of another: 2 of 3 and 0 of 1 right."""
    examples = student_examples(space)
    batch = examples.batch(labelled_rows(examples, "test")[:2], np.array([True, True]), 0)
    labels_B = torch.from_numpy(batch.labels_B)
    tally = Tally(space.job.task)
    right_BV, wrong_BV = torch.eye(2)[labels_B], torch.eye(2)[1 - labels_B]
    at = replace(blank(batch), labels_P=labels_B)
    tally.add(right_BV, at, batch, ["big", "big"])
    tally.add(wrong_BV, at, batch, ["big", "small"])
    found = tally.scores(["big", "small"])
    assert found.by_slice == {"big": pytest.approx(2 / 3), "small": 0.0}
    assert found.mean == pytest.approx(1 / 3)
    assert found.examples == 4
    assert found.values["accuracy"] == pytest.approx(1 / 2)


def test_no_row_gives_no_score(space: Workspace) -> None:
    assert Tally(space.job.task).scores([]) == Scores({}, None, 0)


def test_slices_come_in_the_order_of_their_first_row() -> None:
    assert in_order(["b", "a", "b", "c", "a"]) == ["b", "a", "c"]


# The student, and teachers that are made here


def test_what_a_student_is_worth_is_kept_with_its_interval(space: Workspace) -> None:
    """Through JSON and back; the interval holds the mean, and its words say how many texts it is of."""
    scores = judge_student(space, Path(space.student.folder)).scores()
    assert scores.interval is not None
    assert scores.mean is not None
    assert scores.interval[0] < scores.mean < scores.interval[1]
    judgement = Judgement({"t": scores}, None, None, {}, None, 1.0, 0, scores)
    assert Judgement.from_json(json.loads(json.dumps(judgement.to_json()))) == judgement
    assert scores.words().startswith(f"accuracy {scores.mean:.3f} ({scores.interval[0]:.3f} to ")
    assert scores.words().endswith(f"on {scores.examples} test texts")


def test_no_label_is_said_in_words() -> None:
    assert Scores({}, None, 0).words() == "no test row has a label: nothing was measured"


def test_a_made_teacher_is_judged_on_test_rows_of_its_own_sources_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = tiny_rows(tmp_path / "rows", 60, ["books", "shop"])
    base = tiny_classifier(tmp_path / "base")
    section = {"data": {"books": {}}, "train": {"batch_size": 8}}
    job = JobConfig.model_validate(
        {
            "name": "made",
            "task": {"labels": list(LABELS)},
            "data": {
                "sources": {
                    name: {"path": path, "splits": {"validation": 10, "test": size}}
                    for (name, path), size in zip(files.items(), (12, 7), strict=True)
                },
                "max_tokens": 16,
            },
            "teachers": [{"name": "one", "model": base, "finetune": section}],
            "student": {"model": base},
            "objectives": [{"type": "kl"}],
        }
    )
    space = open_workspace(job, tmp_path, Silent())
    folder = tmp_path / "run" / "model"
    shutil.copytree(base, folder)
    made = {"one": Finetuned("run", folder, {}, reused=False)}
    found = judge_made(space, made, Silent())["one"]
    assert (list(found.by_slice), found.examples) == (["books"], 12)
    monkeypatch.setattr("actors.finetune.judge_student", lambda *_: pytest.fail("measured twice"))
    assert judge_made(space, made, Silent())["one"] == found
