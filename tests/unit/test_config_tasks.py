"""The task section: its default type, its variants, and overrides of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit import config_sample as sample
from tutelage.config.load import load_job
from tutelage.config.task import CausalLM, QuestionAnswering, SequenceClassification, TokenClassification
from tutelage.errors import ConfigError

pytestmark = pytest.mark.unit


def task(tmp_path: Path, *overrides: str) -> object:
    text = sample.SMALL.replace("    shop: {type: catalog, dataset: reviews/amazon}\n", "")
    return load_job(sample.write(tmp_path, text), overrides, {}).job.task


def test_a_task_without_type_classifies_sequences(tmp_path: Path) -> None:
    assert task(tmp_path) == SequenceClassification(labels=["negative", "positive"])


def test_a_label_can_be_set_without_naming_the_type(tmp_path: Path) -> None:
    assert task(tmp_path, "task.labels=[a, b]") == SequenceClassification(labels=["a", "b"])


def test_another_type_keeps_what_it_knows_and_drops_the_rest(tmp_path: Path) -> None:
    tokens = TokenClassification(type="token-classification", labels=["negative", "positive"])
    assert task(tmp_path, "task.type=token-classification") == tokens
    answers = QuestionAnswering(type="question-answering", unanswerable=True)
    assert task(tmp_path, "task.type=question-answering", "task.unanswerable=true") == answers
    assert task(tmp_path, "task.type=causal-lm") == CausalLM(type="causal-lm")


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["task.type=token-clasification"], "task.type: token-clasification is not allowed; wants sequence-"),
        (
            ["task.unanswerable=true"],
            "type sequence-classification has no 'unanswerable'; it belongs to type question-",
        ),
        (["task={type: causal-lm, labels: [a, b]}"], "type causal-lm has no 'labels'"),
        (["task={type: token-classification}"], "task.labels: missing"),
        (["task={type: token-classification, labels: [O, O]}"], "labels stand twice: O"),
    ],
)
def test_a_wrong_task_says_what_is_allowed(tmp_path: Path, overrides: list[str], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        task(tmp_path, *overrides)
    assert problem in str(caught.value)


def test_tasks_without_classes_have_no_labels() -> None:
    assert QuestionAnswering(type="question-answering").labels == CausalLM(type="causal-lm").labels == []
