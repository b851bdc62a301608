"""The text part of the continual-learning benchmark, on made-up texts and a tiny encoder."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from benchmarks.continual.table import Result
from benchmarks.continual.text import text_table
from benchmarks.continual.text_data import (
    Stream,
    class_stream,
    distinct,
    domain_stream,
    orders,
    read_tab,
    steps_by_frequency,
)
from benchmarks.continual.text_learning import Begun, Learner, result, shape, student, trained_parameters
from benchmarks.continual.text_methods import RECIPES, Recipe, Settings
from tutelage.testing.models import tiny_model

NAMES = ("a", "b", "c", "d")


class Words:
    """A tokenizer of words: the id is a digest of the word, and 0 pads."""

    pad_token_id = 0

    def __call__(self, texts: list[str], *, max_length: int, **_: Any) -> dict[str, Any]:
        words = [text.split()[:max_length] for text in texts]
        ends = [[(0, len(" ".join(some[: at + 1]))) for at in range(len(some))] for some in words]
        ids = [[1 + sum(map(ord, word)) % 50 for word in some] for some in words]
        return {"input_ids": ids, "offset_mapping": ends}


def domain(name: str, count: int) -> list[tuple[str, str]]:
    return [(f"{name} {n} " + "x " * (n % 5), "positive" if n % 2 else "negative") for n in range(count)]


def domains(seed: int = 1, tests: int = 4, rows: int = 16) -> Stream:
    made = {name: domain(name, 40) for name in NAMES}
    return domain_stream(made, Words(), tests=tests, rows=rows, most=5, seed=seed)


def topics() -> Stream:
    train = [(f"{label} {n}", label) for label, count in (("p", 6), ("q", 6), ("r", 5), ("s", 3), ("t", 2))
             for n in range(count)]  # fmt: skip
    test = [(f"{label} test {n}", label) for label in "pqrst" for n in range(3)]
    return class_stream(train, test, Words(), first=["q", "p"], steps=2, rows=4, tests=2, most=5, seed=1)


def texts(stream: Stream, rows: list[int]) -> list[str]:
    return [stream.corpus.texts[row] for row in rows]


def test_all_orders_differ_and_more_contain_fewer() -> None:
    every = orders(NAMES, 24)
    assert len({tuple(one) for one in every}) == 24
    assert orders(NAMES, 5) == every[:5]
    assert all(sorted(one) == sorted(NAMES) for one in every)


def test_four_orders_have_each_name_once_in_each_place() -> None:
    every = orders(NAMES, 24)
    for start in range(0, 24, 4):
        assert all(sorted(place) == sorted(NAMES) for place in zip(*every[start : start + 4], strict=True))


@pytest.mark.parametrize("count", [0, 25])
def test_orders_that_do_not_exist_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match="1 to 24"):
        orders(NAMES, count)


def test_classes_come_frequent_ones_first_in_even_steps() -> None:
    counts = {"a": 1, "b": 9, "c": 5, "d": 5, "e": 7}
    assert steps_by_frequency(counts, 2) == [["b", "e", "c"], ["d", "a"]]
    assert steps_by_frequency(counts, 5) == [["b"], ["e"], ["c"], ["d"], ["a"]]
    with pytest.raises(ValueError, match="6 steps"):
        steps_by_frequency(counts, 6)


def test_test_texts_stay_and_training_texts_go_by_the_seed() -> None:
    one, other = domains(1), domains(2)
    for first, second in zip(one.contexts, other.contexts, strict=True):
        assert texts(one, first.test) == texts(other, second.test)
        assert texts(one, first.train) != texts(other, second.train)
        assert not set(texts(one, first.train)) & set(texts(one, first.test))
        assert len(set(texts(one, first.train))) == 16


def test_a_text_that_stands_twice_is_one_row() -> None:
    rows = [*domain("a", 10), *domain("a", 10)]
    assert sorted(distinct(rows)) == sorted(domain("a", 10))
    with pytest.raises(ValueError, match="a has 10 texts"):
        domain_stream({"a": rows}, Words(), tests=4, rows=7, most=5, seed=1)


def test_batches_are_the_same_wherever_a_context_stands_and_have_each_text_once() -> None:
    stream = domains()
    turned = stream.in_order(["c", "a", "d", "b"])
    assert [one.name for one in turned.contexts] == ["c", "a", "d", "b"]
    mine, other = (
        [texts(one, rows) for rows in one.contexts[at].batches(one.corpus, 4, 2, 7)]
        for one, at in ((stream, 2), (turned, 0))
    )
    assert mine == other
    assert set(Counter(chain(*mine)).values()) == {2}
    assert mine != [
        texts(stream, rows) for rows in stream.contexts[2].batches(stream.corpus, 4, 2, 8)
    ]  # fmt: skip


def test_joint_takes_as_many_steps_as_all_contexts() -> None:
    stream = domains()
    each = [len(list(one.batches(stream.corpus, 4, 1, 1))) for one in stream.contexts]
    assert len(list(stream.together.batches(stream.corpus, 4, 1, 1))) == sum(each)


def test_a_text_is_kept_up_to_its_last_token_that_is_read() -> None:
    corpus = domains().corpus
    assert max(len(one) for one in corpus.tokens) == 5
    assert max(len(one.split()) for one in corpus.texts) == 5
    inputs = corpus.inputs([0, 1])
    assert inputs["attention_mask"].sum(1).tolist() == [len(corpus.tokens[row]) for row in (0, 1)]


def test_classes_of_a_stream_follow_its_contexts() -> None:
    stream = topics()
    assert stream.classes == ["q", "p", "r", "s", "t"]
    assert [one.name for one in stream.contexts] == ["r8", "step-1", "step-2"]
    assert [one.classes for one in stream.contexts] == [2, 4, 5]
    known: set[int] = set()
    for one in stream.contexts:
        own = set(stream.corpus.labels_N[one.train].tolist())
        assert own == set(range(one.classes)) - known
        assert set(stream.corpus.labels_N[one.test].tolist()) == own
        known |= own
    assert [len(one.train) for one in stream.contexts] == [8, 7, 2]
    assert [len(one.test) for one in stream.contexts] == [4, 4, 2]
    assert all("test" in text for text in texts(stream, stream.together.test))


def test_a_tab_file_has_a_head_of_three_lines_and_blank_ones(tmp_path: Path) -> None:
    path = tmp_path / "some.tab"
    path.write_text(
        "Category\tText\nd\tstring\nclass\t\n\t\nacq\tone two \n\nearn\tthree\n".replace("\n\t\n", "\n")
    )
    assert read_tab(path) == [("one two", "acq"), ("three", "earn")]


def test_the_learning_rate_rises_and_falls() -> None:
    rates = [shape(step, 20) for step in range(20)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert all(one > next_ for one, next_ in pairwise(rates[2:]))
    assert rates[-1] == pytest.approx(1 / 18)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tiny_model(
        tmp_path_factory.mktemp("tiny"), "sequence-classification", ["x", "y"], layers=6, embeddings=60
    )
    return Settings(folder, batch=4, fisher_examples=6, kilobytes=2, lr=1e-2, later_lr=1e-2)


@pytest.mark.parametrize("method", list(RECIPES))
def test_every_method_gives_a_triangle_on_growing_classes(method: str, settings: Settings) -> None:
    found = result(
        {(1, 1): topics()}, method, replace(settings, buffer="balanced", fisher_mode="sampled"), {}
    )
    assert found.scenario == "class"
    assert [len(row) for row in found.matrices[0]] == [1, 2, 3]
    assert all(0 <= value <= 1 for row in found.matrices[0] for value in row)


def test_methods_share_the_first_training_of_a_seed(settings: Settings) -> None:
    stream, begun = domains(), Begun()
    found = [result({(1, 1): stream}, name, settings, begun) for name in ("none", "ewc", "lwf", "er")]
    assert list(begun) == [("a", 1)]
    assert len({one.matrices[0][0][0] for one in found}) == 1


def test_a_penalty_without_strength_changes_nothing(settings: Settings) -> None:
    stream = domains()
    weights = []
    for hold in ("", "ewc"):
        learner = begin(stream, Recipe(hold=hold), replace(settings, lam=0.0))
        for context in stream.contexts:
            learner.learn(context)
        weights.append(trained_parameters(learner.model))
    assert all(torch.equal(one, weights[1][name]) for name, one in weights[0].items())


def test_a_stiff_penalty_keeps_what_was_important_and_leaves_new_rows_free(settings: Settings) -> None:
    stream = topics()
    learner = begin(stream, Recipe(hold="ewc"), replace(settings, lam=1e12))
    first, second, _ = stream.contexts
    learner.learn(first)
    held = {name: one.detach().clone() for name, one in trained_parameters(learner.model).items()}
    learner.train(second)
    now = trained_parameters(learner.model)
    firm = learner.anchors.precision["classifier.weight"] > 1e-6
    assert firm.any()
    moved = (now["classifier.weight"][:2] - held["classifier.weight"]).detach().abs()
    assert float(moved[firm].max()) < 1e-5
    assert float(now["classifier.bias"][2:].detach().abs().min()) > 1e-4


def test_loss_is_the_mean_over_new_and_kept_texts(settings: Settings) -> None:
    stream = topics()
    learner = begin(stream, RECIPES["der++"], replace(settings, logits=0.25))
    first, second, _ = stream.contexts
    learner.learn(first)
    kept = {int(item.columns["row"]): torch.tensor(item.logits) for item in learner.buffer}
    learner.train(replace(second, train=[]))
    learner._random = np.random.default_rng(3)
    rows = [int(item.columns["row"]) for item in learner.buffer.sample(2, np.random.default_rng(3))]
    new = second.train[:2]
    found = learner.loss(new)
    with torch.no_grad():
        logits_BC = learner.model(**stream.corpus.inputs(new + rows)).logits
    assert logits_BC.shape == (4, 4)
    right = F.cross_entropy(logits_BC, stream.corpus.labels_N[new + rows])
    dark = sum(float((logits_BC[2 + at, :2] - kept[row]).square().mean()) for at, row in enumerate(rows))
    assert float(found.detach()) == pytest.approx(float(right) + 0.25 * dark / 4, abs=1e-5)


def test_joint_says_accuracy_alone_and_sizes_weigh_the_share_of_texts() -> None:
    none = Result("reuters", "class", "none", [1], [[[0.9], [0.5, 1.0]]], [2.0])
    joint = replace(none, method="joint", matrices=[[[0.5], [0.5, 1.0]]])
    lines = text_table([none, joint], [30, 10]).splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]
    assert cells == [
        ["none", "75.00", "-40.00", "40.00", "50.00", "62.50", "2.0"],
        ["joint", "75.00", "", "", "", "62.50", "2.0"],
    ]
    assert "of texts" not in text_table([none], [10, 10])


def begin(stream: Stream, recipe: Recipe, settings: Settings) -> Learner:
    model = student(settings.model, stream.classes[: stream.contexts[0].classes], 1)
    return Learner(stream, recipe, settings, 1, model)
