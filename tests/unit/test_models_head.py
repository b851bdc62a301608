"""All that config.json says of a classifier's head is asked before its logits are taken for a choice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tutelage.config.models import TeacherConfig
from tutelage.config.task import SequenceClassification
from tutelage.errors import ModelError
from tutelage.models.describe import describe, teacher_label_order
from tutelage.models.head import class_names, head_fault
from tutelage.models.load import load_classifier, load_model
from tutelage.testing import LABELS, tiny_classifier

pytestmark = pytest.mark.unit

TASK = SequenceClassification(labels=list(LABELS))


def folder_with(folder: Path, labels: tuple[str, ...] = LABELS, **config: Any) -> Path:
    tiny_classifier(folder, labels)
    known = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(known | config))
    return folder


def order_of(folder: Path, labels: list[str] | None = None) -> list[int]:
    return teacher_label_order(TeacherConfig(name="critic", model="m", labels=labels), describe(folder), TASK)


@pytest.mark.parametrize("kind", [None, "single_label_classification"])
def test_a_head_that_chooses_one_class_is_a_teacher(tmp_path: Path, kind: str | None) -> None:
    assert order_of(folder_with(tmp_path / "m", problem_type=kind)) == [0, 1]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("multi_label_classification", "answers each class by itself"),
        ("regression", "predicts a number"),
    ],
)
def test_a_head_for_another_problem_is_no_teacher_whatever_the_labels(
    tmp_path: Path, kind: str, said: str
) -> None:
    folder = folder_with(tmp_path / "m", problem_type=kind)
    for labels in (None, list(LABELS)):
        with pytest.raises(ModelError, match=said) as caught:
            order_of(folder, labels)
        assert "teachers.critic.finetune" in caught.value.fix


def test_one_logit_is_no_choice(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has one logit"):
        order_of(folder_with(tmp_path / "m", ("positive",), id2label={"0": "positive"}, label2id=None))


def test_a_student_of_such_a_base_is_saved_as_what_it_is(tmp_path: Path) -> None:
    """Else it could not be a teacher again."""
    folder = folder_with(tmp_path / "m", problem_type="multi_label_classification")
    model = load_model(folder, "sequence-classification", list(LABELS), new_head=True)
    model.save_pretrained(tmp_path / "student")
    assert describe(tmp_path / "student").head_fault is None


def test_id2label_turned_round_is_named_and_the_advice_helps(tmp_path: Path) -> None:
    turned = {"negative": 0, "positive": 1}
    with pytest.raises(ModelError, match="keys negative, positive; they must be 0 to 1") as caught:
        describe(folder_with(tmp_path / "m", id2label=turned))
    assert "label2id" in caught.value.fix
    opposite = {"0": "negative", "1": "positive"}
    assert order_of(folder_with(tmp_path / "n", id2label=opposite, label2id=turned)) == [0, 1]


@pytest.mark.parametrize(
    "named",
    [
        {"0": "a", "2": "b"},
        {"1": "a", "2": "b"},
        {"-1": "a", "0": "b"},
        {"0": "a", "00": "b"},
        {"x": "a"},
        ["a"],
    ],
)
def test_numbers_that_are_no_logits_are_refused(named: Any) -> None:
    with pytest.raises(ModelError, match="id2label"):
        class_names({"id2label": named}, "here")


def test_two_mappings_that_say_the_opposite_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"'negative' config\.json says 0 in id2label and 1 in label2id"):
        describe(folder_with(tmp_path / "m", label2id={"negative": 1, "positive": 0}))


@pytest.mark.parametrize(
    "config",
    [
        {"id2label": {"0": "a", "1": "b"}},
        {"id2label": {0: "a", 1: "b"}, "label2id": {"a": 0, "b": 1}},
        {"id2label": {"1": "b", "0": "a"}, "label2id": {"LABEL_0": 0, "LABEL_1": 1}},
    ],
)
def test_names_stand_in_the_order_of_the_logits(config: dict[str, Any]) -> None:
    assert class_names(config, "here") == ["a", "b"]
    assert head_fault(config, ["a", "b"]) is None


def test_names_that_differ_in_case_alone_come_with_the_line_to_write(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "m", ("POSITIVE", "Negative "))
    with pytest.raises(ModelError, match="knows") as caught:
        order_of(folder)
    assert "teachers.critic.labels: [positive, negative]" in caught.value.fix
    assert order_of(folder, ["positive", "negative"]) == [1, 0]


def test_a_base_may_say_of_its_head_what_it_likes(tmp_path: Path) -> None:
    """Only classifiers have classes: a masked language model's names mean nothing."""
    folder = folder_with(tmp_path / "m", architectures=["BertForMaskedLM"], problem_type="regression")
    assert describe(folder).labels == []
    assert load_classifier(folder, list(LABELS)).config.id2label == dict(enumerate(LABELS))
