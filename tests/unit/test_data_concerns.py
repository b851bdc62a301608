"""What is counted of a job's rows beyond their number, and from where on it is a concern."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.data_samples import job, parquet, word_tokenizer
from tutelage.data.concerns import concerns
from tutelage.data.near import LEAST, RUN, SHARE
from tutelage.data.row_set import RowSet
from tutelage.data.rows import read_rows
from tutelage.data.token_facts import TokenFacts, token_facts
from tutelage.data.tokens import tokenise

pytestmark = pytest.mark.unit

WORDS = [f"w{i}" for i in range(40)]
SPLITS = {"test": 0, "validation": 0}


def looked(
    folder: Path, sources: dict[str, Any], labels: tuple[str, ...] = ("negative", "positive"), most: int = 32
) -> tuple[RowSet, TokenFacts, list[str]]:
    """Rows, facts and concerns of sources of columns."""
    made = {
        name: {"path": parquet(folder / f"{name}.parquet", **one.pop("columns")), "splits": SPLITS, **one}
        for name, one in sources.items()
    }
    config = job(made, labels, max_tokens=most)
    rows = read_rows(config, folder / "home")
    tokenizer = word_tokenizer(folder / "tokenizer", WORDS)
    facts = token_facts(tokenise(rows, tokenizer, most, folder / "home"), tokenizer, most)
    return rows, facts, concerns(config, rows, facts)


def sentence(rng: np.random.Generator, length: int) -> str:
    return " ".join(WORDS[i] for i in rng.integers(0, len(WORDS), length))


def test_sane_rows_give_no_concern(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    texts = [sentence(rng, 12) for _ in range(200)]
    columns = {"text": texts, "label": ["negative", "positive"] * 100}
    source = {"columns": columns, "splits": {"test": 50, "validation": 20}}
    rows, facts, found = looked(tmp_path, {"a": source})
    assert found == []
    assert (facts.leaks.texts, facts.leaks.same, facts.leaks.near) == (50, 0, 0)
    one = facts.sources["a"]
    assert (one.texts, one.tokens, one.unknown, one.cut) == (200, 2400, 0, 0)
    assert sum(rows.classes["a"]["test"].values()) == 50


def test_unknown_and_cut_tokens_are_counted_by_source(tmp_path: Path) -> None:
    plain = {"columns": {"text": ["w1 w2 w3"] * 1 + ["w4 w5"], "label": ["negative", "positive"]}}
    foreign = {"columns": {"text": ["w1 这部 电影", "w1 " * 9], "label": ["negative", "positive"]}}
    _, facts, found = looked(tmp_path, {"plain": plain, "foreign": foreign}, most=6)
    assert (facts.sources["foreign"].tokens, facts.sources["foreign"].unknown) == (9, 2)
    assert (facts.sources["plain"].unknown, facts.sources["plain"].cut) == (0, 0)
    assert facts.sources["foreign"].cut == 1
    assert any("foreign: 2 of 9 (22.2 %) tokens are unknown" in line for line in found)
    assert any("foreign: 1 of 2 (50 %) texts are longer than data.max_tokens=6" in line for line in found)
    assert not any(line.startswith("plain") for line in found)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=20), st.integers(4, 9))
@settings(max_examples=25, deadline=None)
def test_a_text_is_cut_when_it_is_longer_and_not_when_it_just_fits(
    tmp_path_factory: Any, lengths: list[int], most: int
) -> None:
    texts = [" ".join([f"w{i}"] * length) for i, length in enumerate(lengths)]
    source = {"columns": {"text": texts, "label": ["negative"] * len(texts)}}
    _, facts, _ = looked(tmp_path_factory.mktemp("cut"), {"a": source}, most=most)
    assert facts.sources["a"].cut == sum(length > most for length in lengths)


def test_test_texts_that_stand_in_training_rows_are_counted(tmp_path: Path) -> None:
    """Word for word but for case and signs; nearly, with a word changed; and short ones are not."""
    rng = np.random.default_rng(1)
    train = [sentence(rng, 16) for _ in range(60)]
    same = [f"{text.upper()} !" for text in train[:4]]
    near = [" ".join([*text.split()[:8], "w0", *text.split()[9:]]) for text in train[4:11]]
    other = [sentence(rng, 16) for _ in range(30)]
    short = ["w1 w2"]
    sources = {
        "train": {"columns": {"text": [*train, "w1 w2 w3"], "label": ["negative"] * 61}, "split": "train"},
        "held": {
            "columns": {"text": [*same, *near, *other, *short], "label": ["positive"] * 42},
            "split": "test",
        },
    }
    _, facts, found = looked(tmp_path, sources)
    assert (facts.leaks.texts, facts.leaks.same, facts.leaks.near) == (42, 4, 7)
    assert facts.leaks.examples[0].startswith("held row ")
    assert any("11 of 42 (26.2 %) test texts stand in the training rows, 4 word for word" in f for f in found)


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_near_texts_are_those_that_share_most_runs(tmp_path_factory: Any, data: st.DataObject) -> None:
    """Against sets of tuples in plain Python."""
    texts = st.lists(st.sampled_from(WORDS[:4]), min_size=3, max_size=14).map(" ".join)
    train = data.draw(st.lists(texts, min_size=1, max_size=6, unique=True))
    test = data.draw(
        st.lists(texts, min_size=1, max_size=6, unique=True).map(lambda t: [x for x in t if x not in train])
    )
    if not test:
        return

    def runs(text: str) -> set[tuple[str, ...]]:
        words = text.split()
        return {tuple(words[i : i + RUN]) for i in range(len(words) - RUN + 1)}

    near = [
        text
        for text in test
        if len(runs(text)) >= LEAST
        and any(len(runs(text) & runs(known)) >= SHARE * len(runs(text)) for known in train)
    ]
    sources = {
        "a": {"columns": {"text": train, "label": ["negative"] * len(train)}, "split": "train"},
        "b": {"columns": {"text": test, "label": ["negative"] * len(test)}, "split": "test"},
    }
    _, facts, _ = looked(tmp_path_factory.mktemp("near"), sources)
    assert (facts.leaks.same, facts.leaks.near) == (0, len(near))


def test_labels_and_repeats_that_are_not_sane_are_told(tmp_path: Path) -> None:
    texts = ["same text"] * 6 + [f"w{i} w1" for i in range(20)]
    labels = ["a", "A", "a", "a", "a", "a", *["a"] * 20]
    source = {"columns": {"text": texts, "label": labels}}
    rows, _, found = looked(tmp_path, {"s": source}, labels=("a", "A", "never"))
    assert (rows.two_labels, rows.repeats) == (1, {"s": 5})
    assert rows.classes["s"]["train"] == {"": 0, "a": 25, "A": 1, "never": 0}
    assert any(f.startswith("task.labels: 'a', 'A' differ in case") for f in found)
    assert any(f == "labels without a train row, so never learned: never" for f in found)
    assert any("1 text stands in several rows with different labels" in f for f in found)


def test_one_class_for_nearly_all_is_told(tmp_path: Path) -> None:
    texts = [f"{WORDS[i]} {WORDS[j]}" for i in range(10) for j in range(4)]
    source = {"columns": {"text": texts, "label": ["positive"] + ["negative"] * 39}}
    assert any("label 'negative' has 39 of 40 (97.5 %)" in f for f in looked(tmp_path, {"s": source})[2])


def test_facts_are_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = job({"a": {"path": parquet(tmp_path / "a.parquet", text=["w1"]), "columns": {"label": None}}})
    tokenizer = word_tokenizer(tmp_path / "tokenizer", WORDS)
    tokens = tokenise(read_rows(config, tmp_path), tokenizer, 8, tmp_path)
    facts = token_facts(tokens, tokenizer, 8)
    monkeypatch.setattr("tutelage.data.token_facts.find_leaks", None)
    assert token_facts(tokens, tokenizer, 8) == facts
