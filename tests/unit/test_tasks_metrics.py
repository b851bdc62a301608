"""Metrics as sums: what single answers are worth, and that parts add up to the whole.

Shapes: P positions, V classes.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.unit.task_samples import TASKS, batch_of, examples_of, in_order, side
from tutelage.tasks.chunks import chunks_of, is_chunked
from tutelage.tasks.metrics import best_passage, metrics, nll, normalised, tally, word_f1
from tutelage.testing import TAGS, tiny_answers, tiny_completions, tiny_tagged

pytestmark = pytest.mark.unit

MAKERS: dict[str, Any] = {
    "token-classification": tiny_tagged,
    "question-answering": tiny_answers,
    "causal-lm": tiny_completions,
}


def total(sums: dict[str, np.ndarray]) -> dict[str, float]:
    return {name: float(values.sum()) for name, values in sums.items()}


@pytest.mark.parametrize(
    ("tags", "chunks"),
    [
        ("O B-X I-X O", {("X", 1, 2)}),
        ("B-X B-X", {("X", 0, 0), ("X", 1, 1)}),
        ("I-X I-X", {("X", 0, 1)}),
        ("B-X I-Y", {("X", 0, 0), ("Y", 1, 1)}),
        ("B-X O I-X", {("X", 0, 0), ("X", 2, 2)}),
        ("B-X I-X E-X S-X", {("X", 0, 2), ("X", 3, 3)}),
        ("B-X L-X U-X", {("X", 0, 1), ("X", 2, 2)}),
        ("I-X E-X I-X", {("X", 0, 1), ("X", 2, 2)}),
        ("O O", set()),
        ("", set()),
        ("B-X-Y I-X-Y", {("X-Y", 0, 1)}),
    ],
)
def test_chunks_follow_the_conll_rules(tags: str, chunks: set[Any]) -> None:
    assert chunks_of(tags.split()) == chunks


def test_labels_are_chunked_only_where_all_say_so() -> None:
    assert is_chunked(["O", "B-X", "I-X"])
    assert not is_chunked(["NOUN", "VERB"])
    assert not is_chunked(["B-X", "I-X"])
    assert not is_chunked(["O", "PER"])


@pytest.mark.parametrize("name", TASKS)
def test_right_rows_get_everything(tmp_path: Path, name: str) -> None:
    one = side(tmp_path, TASKS[name])
    batch = batch_of(examples_of(tmp_path / "d", TASKS[name], MAKERS[name](9), one.folder))
    rows = one.study(batch)
    right_PV = torch.nn.functional.one_hot(rows.labels_P, rows.logits_PV.shape[1]) * 50.0
    found = metrics(one.section, total(tally(one.section, right_PV, rows.labels_P, rows.examples_P, batch)))
    assert found.score == 1.0
    assert found.values["nll"] == pytest.approx(0.0, abs=1e-6)
    assert {found.values[key] for key in found.values if key not in ("nll", "perplexity")} == {1.0}


@pytest.mark.parametrize("name", TASKS)
def test_the_sums_of_parts_are_those_of_the_whole(tmp_path: Path, name: str) -> None:
    one = side(tmp_path, TASKS[name])
    examples = examples_of(tmp_path / "d", TASKS[name], MAKERS[name](9), one.folder)

    def sums(rows: np.ndarray) -> dict[str, np.ndarray]:
        batch = batch_of(examples, rows)
        said = one.study(batch)
        return tally(one.section, said.logits_PV, said.labels_P, said.examples_P, batch)

    everything = in_order(examples)
    whole, parts = sums(everything), [sums(everything[:4]), sums(everything[4:])]
    for key, values in whole.items():
        np.testing.assert_allclose(values, np.concatenate([part[key] for part in parts]), rtol=1e-5)


def test_unlabelled_examples_count_for_nothing(tmp_path: Path) -> None:
    for name, task in TASKS.items():
        one = side(tmp_path / name, task)
        examples = examples_of(tmp_path / name / "d", task, MAKERS[name](3), one.folder)
        batch = examples.batch(in_order(examples), np.array([True, False, True]), 0)
        rows = one.study(batch)
        sums = tally(one.section, rows.logits_PV, rows.labels_P, rows.examples_P, batch)
        assert {key: float(values[1]) for key, values in sums.items()} == dict.fromkeys(sums, 0.0)


def test_span_f1_counts_whole_chunks(tmp_path: Path) -> None:
    """One of two chunks found, and one of them in half: precision 1/2, recall 1/2, accuracy 3/4."""
    one = side(tmp_path, TASKS["token-classification"], vocabulary=["a", "b", "c", "d"])
    rows = [{"tokens": ["a", "b", "c", "d"], "tags": ["B-PER", "O", "B-LOC", "I-LOC"]}]
    batch = batch_of(examples_of(tmp_path / "d", TASKS["token-classification"], rows, one.folder))
    said = torch.tensor([TAGS.index(tag) for tag in ("B-PER", "O", "B-LOC", "O")])
    labels = torch.from_numpy(batch.labels_P)
    logits_PV = torch.nn.functional.one_hot(said, 5) * 9.0
    found = metrics(
        one.section, total(tally(one.section, logits_PV, labels, torch.zeros(4, dtype=int), batch))
    )
    values = found.values
    assert (values["precision"], values["recall"], values["f1"], values["accuracy"]) == (0.5, 0.5, 0.5, 0.75)
    assert found.primary == "f1"


def test_tags_without_chunks_are_compared_by_accuracy() -> None:
    from tutelage.config.task import TokenClassification

    task = TokenClassification(type="token-classification", labels=["NOUN", "VERB"])
    assert metrics(task, {"nll": 2.0, "positions": 4.0, "right": 3.0}).score == 0.75


def test_the_best_passage_ends_after_it_begins_and_is_no_longer_than_30_words() -> None:
    text = " ".join(f"w{n}" for n in range(40))
    ends = np.cumsum([len(word) + 1 for word in text.split()]) - 1
    begins = np.concatenate([[0], ends[:-1] + 1])
    spans = np.stack([begins, ends], 1).astype(np.int32)
    start, end = np.zeros(40, np.float32), np.zeros(40, np.float32)
    start[5], end[2], end[7] = 9, 8, 5
    assert best_passage(text, spans, start, end) == "w5 w6 w7"
    end[2], end[7], end[34], end[35] = 0, 0, 3, 9
    assert best_passage(text, spans, start, end).split()[-1] == "w34"
    assert len(best_passage(text, spans, start, end).split()) == 30


def test_no_answer_wins_only_where_it_is_the_best() -> None:
    spans = np.array([[0, 0], [0, 2]], np.int32)
    for null, said in ((1.0, "so"), (5.0, "")):
        logits = np.array([null, 3.0], np.float32)
        assert best_passage("so", spans, logits, logits, unanswerable=True) == said
    assert best_passage("so", spans[:1], logits[:1], logits[:1], unanswerable=True) == ""


def test_answers_are_compared_as_squad_does() -> None:
    assert normalised("The  Cat, (1998)!") == "cat 1998"
    assert word_f1("the black cat", "a cat") == pytest.approx(2 / 3)
    assert word_f1("cat", "dog") == 0.0
    assert word_f1("", "the") == 1.0
    assert word_f1("", "cat") == 0.0
    assert word_f1("日本", "日本語") == pytest.approx(0.8)


def test_a_gold_answer_that_was_cut_off_still_counts(tmp_path: Path) -> None:
    """The figure is of the question, not of what the student could see."""
    task = TASKS["question-answering"]
    one = side(tmp_path, task, vocabulary=["who", "a", "b"])
    context = "a " * 20 + "b"
    rows = [{"question": "who", "context": context, "answers": {"text": ["b"], "answer_start": [40]}}]
    batch = batch_of(examples_of(tmp_path / "d", task, rows, one.folder, 12))
    said = one.study(batch)
    assert said.labels_P.tolist() == [-1, -1]
    sums = total(tally(one.section, said.logits_PV, said.labels_P, said.examples_P, batch))
    assert (sums["answered"], sums["f1"], sums["positions"]) == (1.0, 0.0, 0.0)


def test_nll_is_0_where_there_is_no_label() -> None:
    found = nll(torch.zeros(2, 4), torch.tensor([3, -1]))
    assert found.tolist() == pytest.approx([math.log(4), 0.0])


def test_perplexity_is_the_exponential_of_the_nll() -> None:
    from tutelage.config.task import CausalLM

    found = metrics(CausalLM(type="causal-lm"), {"nll": 6.0, "positions": 3.0, "right": 1.0})
    assert found.values["perplexity"] == pytest.approx(math.exp(2.0))
    assert found.score == pytest.approx(1 / 3)
