"""What a model folder says of itself, and the folders that are refused before a weight is loaded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tutelage.config.models import StudentConfig, TeacherConfig
from tutelage.config.task import SequenceClassification
from tutelage.errors import ModelError
from tutelage.models.describe import (
    ModelCard,
    check_length,
    check_student,
    check_vocabulary_size,
    describe,
    teacher_label_order,
)
from tutelage.models.fingerprint import fingerprint

pytestmark = pytest.mark.unit

CONFIG: dict[str, Any] = {
    "model_type": "bert",
    "architectures": ["BertForSequenceClassification"],
    "num_hidden_layers": 4,
    "vocab_size": 100,
    "max_position_embeddings": 64,
    "id2label": {"0": "negative", "1": "positive"},
}
CARD = ModelCard("here", "BertForSequenceClassification", 4, 100, 64, ["negative", "positive"])
TASK = SequenceClassification(labels=["negative", "positive"])


def model(folder: Path, *, weights: str = "model.safetensors", tokenizer: Any = None, **changes: Any) -> Path:
    """A folder with a config, a file that is called weights, and perhaps a tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))
    (folder / weights).write_bytes(b"weights")
    if tokenizer is not None:
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return folder


def words(*numbers: int, added: tuple[int, ...] = ()) -> dict[str, Any]:
    return {
        "model": {"type": "WordLevel", "vocab": {f"word{n}": n for n in numbers}},
        "added_tokens": [{"id": n, "content": f"added{n}"} for n in added],
    }


# describe


def test_the_card_holds_the_facts_of_the_folder(tmp_path: Path) -> None:
    folder = model(tmp_path / "m", tokenizer=words(*range(100)))
    assert describe(folder) == replace(CARD, folder=str(folder))


def test_distilbert_spells_its_layers_otherwise(tmp_path: Path) -> None:
    folder = model(tmp_path / "m", model_type="distilbert", num_hidden_layers=6)
    assert describe(folder).layers == 6


def test_labels_stand_in_the_order_of_the_logits_also_beyond_ten(tmp_path: Path) -> None:
    """The keys are strings: sorted as text, 10 would come before 2."""
    names = {str(n): f"class{n}" for n in reversed(range(12))}
    assert describe(model(tmp_path / "m", id2label=names)).labels == [f"class{n}" for n in range(12)]


@pytest.mark.parametrize("kind", ["BertModel", "BertForMaskedLM", "BertForQuestionAnswering"])
def test_a_model_without_a_head_for_the_task_has_no_labels(tmp_path: Path, kind: str) -> None:
    assert describe(model(tmp_path / "m", architectures=[kind])).labels == []


def test_classes_that_were_never_named_have_placeholders(tmp_path: Path) -> None:
    """transformers leaves its default names out of a saved config."""
    assert describe(model(tmp_path / "m", id2label=None)).labels == ["LABEL_0", "LABEL_1"]


@pytest.mark.parametrize("weights", ["pytorch_model.bin", "model.pt", "model.safetensors.index.json"])
def test_a_folder_without_safetensors_is_refused(tmp_path: Path, weights: str) -> None:
    folder = model(tmp_path / "m", weights=weights)
    with pytest.raises(ModelError, match=r"no \.safetensors weights; pickled weights can run code"):
        describe(folder)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "no config.json"),
        (b"{", "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b"[1]", "not a JSON object"),
    ],
    ids=["missing", "cut off", "no text", "a list"],
)
def test_a_config_that_cannot_be_read_is_an_error_that_names_the_folder(
    tmp_path: Path, content: bytes | None, problem: str
) -> None:
    if content is not None:
        (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ModelError, match=problem) as caught:
        describe(tmp_path)
    assert str(tmp_path) in caught.value.problem
    assert caught.value.fix


# Label order


def teacher(labels: list[str] | None = None) -> TeacherConfig:
    return TeacherConfig(name="critic", model="here", labels=labels)


@pytest.mark.parametrize(
    ("own", "order"), [(["negative", "positive"], [0, 1]), (["positive", "negative"], [1, 0])]
)
def test_each_task_label_gets_the_logit_that_means_it(own: list[str], order: list[int]) -> None:
    assert teacher_label_order(teacher(), replace(CARD, labels=own), TASK) == order
    assert teacher_label_order(teacher(own), replace(CARD, labels=["LABEL_0", "LABEL_1"]), TASK) == order


def test_written_labels_count_more_than_those_of_the_model() -> None:
    assert teacher_label_order(teacher(["positive", "negative"]), CARD, TASK) == [1, 0]


def test_placeholder_labels_are_refused() -> None:
    with pytest.raises(ModelError, match=r"calls its classes \['LABEL_0', 'LABEL_1'\]") as caught:
        teacher_label_order(teacher(), replace(CARD, labels=["LABEL_0", "LABEL_1"]), TASK)
    assert "teachers.critic.labels" in caught.value.fix


@pytest.mark.parametrize(
    "own",
    [["bad", "good"], ["negative"], ["negative", "neutral", "positive"], ["Negative", "Positive"]],
    ids=str,
)
def test_other_labels_than_the_tasks_are_refused(own: list[str]) -> None:
    with pytest.raises(ModelError, match=r"knows .*, task\.labels are") as caught:
        teacher_label_order(teacher(), replace(CARD, labels=own), TASK)
    assert "teachers.critic.labels" in caught.value.fix


def test_a_bare_encoder_is_no_teacher() -> None:
    with pytest.raises(ModelError, match="is a BertModel without a trained head") as caught:
        teacher_label_order(teacher(), replace(CARD, labels=[], architecture="BertModel"), TASK)
    assert "teachers.critic.finetune" in caught.value.fix


def test_written_labels_do_not_make_a_bare_encoder_a_teacher() -> None:
    """Its head would be random numbers."""
    with pytest.raises(ModelError, match="without a trained head"):
        teacher_label_order(
            teacher(["negative", "positive"]), replace(CARD, labels=[], architecture="BertModel"), TASK
        )


def test_as_many_labels_as_logits_must_be_written() -> None:
    three = replace(CARD, labels=["a", "b", "c"])
    with pytest.raises(ModelError, match="names 2 classes, the model has 3"):
        teacher_label_order(teacher(["negative", "positive"]), three, TASK)


# Sizes


def test_a_tokenizer_with_more_words_than_embeddings_is_refused() -> None:
    check_vocabulary_size("student", CARD, 100)
    check_vocabulary_size("student", CARD, 7)
    with pytest.raises(ModelError, match="the tokenizer has 101 tokens, the model embeds 100"):
        check_vocabulary_size("teachers.critic", CARD, 101)


def test_more_tokens_than_positions_are_refused() -> None:
    check_length("student.model", CARD, 64, "less")
    check_length("student.model", replace(CARD, positions=None), 65, "less")
    with pytest.raises(ModelError, match=r"data\.max_tokens is 65, Bert.* has 64 positions") as caught:
        check_length("student.model", CARD, 65, "less")
    assert caught.value.fix == "less"


def test_a_student_keeps_only_layers_that_there_are() -> None:
    check_student(StudentConfig(model="here", layers=[0, 3]), CARD)
    with pytest.raises(ModelError, match=r"student\.layers \[0, 4\]: here has layers 0 to 3"):
        check_student(StudentConfig(model="here", layers=[0, 4]), CARD)


# Fingerprint


def test_the_fingerprint_is_that_of_the_content_not_of_the_path(tmp_path: Path) -> None:
    first, second = (model(tmp_path / name, tokenizer=words(0)) for name in ("one", "two"))
    assert fingerprint(first, first, "setting") == fingerprint(second, second, "setting")
    assert fingerprint(first, first) == fingerprint(first, second)
    assert len(fingerprint(first, first)) == 16


def test_the_fingerprint_changes_with_weights_tokenizer_config_and_settings(tmp_path: Path) -> None:
    folder = model(tmp_path / "m", tokenizer=words(0))
    found = {fingerprint(folder, folder, 1, "a")}
    found |= {fingerprint(folder, folder, *settings) for settings in ((1,), (2, "a"), ("1a",), ())}
    for name in ("model.safetensors", "model-2.safetensors", "tokenizer.json", "config.json", "vocab.txt"):
        (folder / name).write_bytes(b"changed")
        found.add(fingerprint(folder, folder, 1, "a"))
    assert len(found) == 10


def test_notes_beside_the_model_do_not_make_it_another(tmp_path: Path) -> None:
    folder = model(tmp_path / "m", tokenizer=words(0))
    before = fingerprint(folder, folder)
    (folder / "README.md").write_text("about this model")
    (folder / "result.json").write_text("{}")
    assert fingerprint(folder, folder) == before
