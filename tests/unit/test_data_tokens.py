"""Tokenised rows: made once, read by number, padded without loss."""

from __future__ import annotations

import pickle
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.data_samples import job, labelled, parquet, word_tokenizer
from tutelage.config.data import Pick
from tutelage.data.rows import read_rows
from tutelage.data.tokens import Examples, tokenise
from tutelage.errors import DataError, ModelError, StoreError
from tutelage.progress import Table

pytestmark = pytest.mark.unit

WORDS = [f"w{i}" for i in range(30)]
ALL_WORDS = [*WORDS, *(f"n{i}" for i in range(9000))]
NUMBERS = {word: i for i, word in enumerate(["[PAD]", "[UNK]", *ALL_WORDS])}


def word_texts(lengths: list[int]) -> list[str]:
    """Distinct texts of so many words each; the first word is the text's own number."""
    return [
        " ".join([f"n{i}", *(WORDS[(i + j) % 30] for j in range(length - 1))])
        for i, length in enumerate(lengths)
    ]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Two sources, 9,000 and 20 rows, of 1 to 12 words, cut at 10 tokens."""
    folder = tmp_path_factory.mktemp("tokens")
    many = word_texts([1 + i % 12 for i in range(9000)])
    labels = [[None, "negative", "positive"][i % 3] for i in range(9000)]
    sources = {
        "a": {
            "path": parquet(folder / "a.parquet", text=many, label=labels),
            "splits": {"test": 100, "validation": 50},
        },
        "b": {
            "path": labelled(folder / "b.parquet", 20, "w1"),
            "slice": "shop",
            "splits": {"test": 2, "validation": 3},
        },
    }
    rows = read_rows(job(sources), folder)
    return tokenise(rows, word_tokenizer(folder / "tokenizer", ALL_WORDS), 10, folder)


@pytest.fixture(scope="module")
def examples(made) -> Examples:
    return Examples.open(made)


def ids_of(text: str) -> list[int]:
    """What the word tokenizer gives: the numbers of the first 10 words."""
    return [NUMBERS.get(word, 1) for word in text.split()[:10]]


def test_all_rows_are_there_with_their_tokens_cut_at_max_tokens(examples):
    rows = np.arange(len(examples))
    assert len(rows) == 9020
    expected = [ids_of(text) for text in examples.texts(rows)]
    assert examples.lengths(rows).tolist() == [len(ids) for ids in expected]
    assert examples.lengths(rows).dtype == np.int32
    assert max(map(len, expected)) == 10
    batch = examples.batch(rows, np.ones(len(rows), bool), 0)
    for ids, row, mask in zip(expected, batch.input_ids_BT, batch.attention_mask_BT, strict=True):
        assert row[mask == 1].tolist() == ids


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9019), st.booleans()), max_size=40), st.integers(0, 50))
def test_a_batch_holds_the_tokens_of_its_rows_in_order_and_padding_elsewhere(examples, chosen, pad_id):
    rows = np.array([row for row, _ in chosen], np.int64)
    labelled_B = np.array([use for _, use in chosen], bool)
    batch = examples.batch(rows, labelled_B, pad_id)
    longest = max(examples.lengths(rows).tolist(), default=1)
    assert batch.input_ids_BT.shape == batch.attention_mask_BT.shape == (len(rows), 8 if longest <= 8 else 10)
    for text, row, mask in zip(
        batch.texts, batch.input_ids_BT.tolist(), batch.attention_mask_BT.tolist(), strict=True
    ):
        ids = ids_of(text)
        assert row == ids + [pad_id] * (len(row) - len(ids))
        assert mask == [1] * len(ids) + [0] * (len(row) - len(ids))
    known = examples.labels(rows)
    assert batch.labels_B.tolist() == [
        int(k) if use else -1 for k, use in zip(known, labelled_B, strict=True)
    ]
    assert batch.digests == examples.digests(rows)
    assert {array.dtype for array in (batch.input_ids_BT, batch.attention_mask_BT, batch.labels_B)} == {
        np.dtype(np.int64)
    }


def test_padding_is_rounded_up_to_a_multiple_of_eight(tmp_path):
    path = parquet(tmp_path / "a.parquet", text=word_texts([3, 9, 17]))
    rows = read_rows(job({"s": {"path": path, "split": "train", "columns": {"label": None}}}), tmp_path)
    examples = Examples.open(tokenise(rows, word_tokenizer(tmp_path / "t", WORDS), 64, tmp_path))
    by_length = {int(n): i for i, n in enumerate(examples.lengths(np.arange(3)))}
    widths = {
        n: examples.batch(np.array([row]), np.array([True]), 0).input_ids_BT.shape[1]
        for n, row in by_length.items()
    }
    assert widths == {3: 8, 9: 16, 17: 24}


# --- selections ------------------------------------------------------------------------------------


def test_a_selection_without_picks_is_the_whole_split(examples):
    chosen = examples.select("validation")
    assert len(chosen) == 53
    assert chosen.labelled.tolist() == (examples.labels(chosen.rows) >= 0).tolist()
    assert set(examples.slices(chosen.rows)) == {"a", "shop"}


def test_picks_take_the_first_rows_and_the_labels_of_fewer(examples):
    whole = examples.select("train", sources=["a"])
    chosen = examples.select("train", {"a": Pick(rows=30, labels=12)})
    assert chosen.rows.tolist() == whole.rows[:30].tolist()
    assert chosen.labelled.tolist() == (examples.labels(chosen.rows)[:12] >= 0).tolist() + [False] * 18


def test_picks_follow_file_order_whatever_their_own_order(examples):
    picks = {"b": Pick(rows=2), "a": Pick(rows=3, labels=0)}
    assert examples.slices(examples.select("train", picks).rows) == ["a"] * 3 + ["shop"] * 2
    assert not examples.select("train", picks).labelled[:3].any()
    assert (
        examples.select("train", picks, sources=["b"]).rows.tolist()
        == examples.select("train", {"b": Pick(rows=2)}).rows.tolist()
    )


def test_the_splits_divide_all_rows(examples):
    parts = [examples.select(split).rows for split in ("test", "validation", "train")]
    assert sorted(np.concatenate(parts).tolist()) == list(range(9020))
    assert [len(part) for part in parts] == [102, 53, 8865]


@pytest.mark.parametrize(
    ("split", "picks", "sources"),
    [("dev", None, None), ("train", {"c": Pick()}, None), ("train", None, ["c"])],
)
def test_unknown_splits_and_sources_are_refused(examples, split, picks, sources):
    with pytest.raises(DataError, match="unknown key"):
        examples.select(split, picks, sources)


# --- files -----------------------------------------------------------------------------------------


def test_examples_and_batches_pickle_as_their_path(examples):
    batch = examples.batch(np.array([3, 1]), np.array([True, True]), 0)
    again = pickle.loads(pickle.dumps(batch))  # noqa: S301
    assert again.texts == batch.texts
    assert len(pickle.dumps(examples)) < 1000


def test_a_url_is_copied_once_and_again_when_it_changes(made, tmp_path):
    memory = fsspec.filesystem("memory")
    memory.pipe("/tokens/a.arrow", made.read_bytes())
    try:
        examples = Examples.open("memory://tokens/a.arrow", cache=tmp_path)
        assert len(examples) == 9020
        assert examples.path.parent == tmp_path
        first = examples.path.stat().st_mtime_ns
        assert Examples.open("memory://tokens/a.arrow", cache=tmp_path).path.stat().st_mtime_ns == first
        memory.pipe("/tokens/a.arrow", made.read_bytes())
        assert Examples.open("memory://tokens/a.arrow", cache=tmp_path).path != examples.path
    finally:
        memory.rm("/tokens", recursive=True)


@pytest.mark.parametrize(
    "place", ["memory://none/a.arrow", "nosuch://a", "{folder}/none.arrow", "{folder}/text.arrow"]
)
def test_a_file_that_cannot_be_read_is_an_error(tmp_path, place):
    (tmp_path / "text.arrow").write_text("not arrow")
    with pytest.raises(StoreError):
        Examples.open(place.format(folder=tmp_path), cache=tmp_path)


def test_rows_without_tokens_are_not_examples(tmp_path):
    rows = read_rows(job({"s": {"path": labelled(tmp_path / "a.parquet", 20)}}), tmp_path)
    with pytest.raises(StoreError, match="has no column input_ids"):
        Examples.open(rows.path)


# --- tokenising ------------------------------------------------------------------------------------


class Count:
    """A stage that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[float, float]] = []

    def update(self, done: float, total: float, **figures: float | str) -> None:
        self.told.append((done, total))

    def note(self, text: str) -> None:
        pass

    def table(self, table: Table) -> None:
        pass


def test_a_second_call_tokenises_nothing_and_any_change_tokenises_again(tmp_path):
    rows = read_rows(job({"s": {"path": labelled(tmp_path / "a.parquet", 20)}}), tmp_path)
    folder = word_tokenizer(tmp_path / "t", WORDS)
    stages = [Count() for _ in range(4)]
    first = tokenise(rows, folder, 16, tmp_path, stages[0])
    assert tokenise(rows, folder, 16, tmp_path, stages[1]) == first
    other_length = tokenise(rows, folder, 8, tmp_path, stages[2])
    word_tokenizer(tmp_path / "t", [*WORDS, "number"])
    other_tokenizer = tokenise(rows, folder, 16, tmp_path, stages[3])
    assert len({first, other_length, other_tokenizer}) == 3
    assert [stage.told for stage in stages] == [[(20, 20)], [], [(20, 20)], [(20, 20)]]


def test_a_failure_in_the_middle_leaves_no_file(tmp_path):
    class Broken(Count):
        def update(self, done: float, total: float, **figures: float | str) -> None:
            raise KeyboardInterrupt

    rows = read_rows(job({"s": {"path": labelled(tmp_path / "a.parquet", 20)}}), tmp_path)
    folder = word_tokenizer(tmp_path / "t", WORDS)
    with pytest.raises(KeyboardInterrupt):
        tokenise(rows, folder, 16, tmp_path, Broken())
    assert list((tmp_path / "tokens").iterdir()) == []
    assert tokenise(rows, folder, 16, tmp_path).is_file()


def test_a_text_without_any_token_names_its_row(tmp_path):
    path = parquet(tmp_path / "a.parquet", text=["w1 w2", "unheard of", "w3"])
    rows = read_rows(job({"s": {"path": path, "columns": {"label": None}, "split": "train"}}), tmp_path)
    folder = silent_tokenizer(tmp_path / "t")
    with pytest.raises(
        DataError, match=r"data\.sources\.s: the tokenizer turns row 2 into no token: 'unheard of'"
    ):
        tokenise(rows, folder, 16, tmp_path)


def silent_tokenizer(folder: Path) -> str:
    """A tokenizer that says nothing for words it does not know."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.BPE({"w": 0, "1": 1, "2": 2, "3": 3}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    return str(folder)


def test_a_broken_tokenizer_is_an_error(tmp_path):
    rows = read_rows(job({"s": {"path": labelled(tmp_path / "a.parquet", 20)}}), tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="is not a tokenizer"):
        tokenise(rows, str(tmp_path), 16, tmp_path)


def test_a_tokenizer_without_tokenizer_json_goes_through_transformers(tmp_path):
    path = parquet(tmp_path / "a.parquet", text=["red blue", "blue blue red red", "red"])
    rows = read_rows(job({"s": {"path": path, "columns": {"label": None}, "split": "train"}}), tmp_path)
    folder = tmp_path / "bert"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "bert"}')
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nred\nblue\n")
    examples = Examples.open(tokenise(rows, str(folder), 5, tmp_path))
    found = dict(zip(examples.texts(np.arange(3)), examples.lengths(np.arange(3)).tolist(), strict=True))
    assert found == {"red blue": 4, "blue blue red red": 5, "red": 3}
    batch = examples.batch(examples.select("train").rows, np.zeros(3, bool), 0)
    assert sorted(batch.input_ids_BT.tolist()) == [[2, 5, 3, 0, 0], [2, 5, 6, 3, 0], [2, 6, 6, 5, 3]]


def test_a_folder_without_any_tokenizer_is_an_error(tmp_path):
    rows = read_rows(job({"s": {"path": labelled(tmp_path / "a.parquet", 20)}}), tmp_path)
    (tmp_path / "none").mkdir()
    with pytest.raises(ModelError, match="none: no tokenizer"):
        tokenise(rows, str(tmp_path / "none"), 16, tmp_path)


def test_the_file_is_rows_plus_input_ids(made):
    with pa.memory_map(str(made)) as file:
        schema = pa.ipc.open_file(file).schema
    assert schema.names == ["digest", "text", "source", "slice", "split", "label", "row", "input_ids"]
    assert schema.field("input_ids").type == pa.list_(pa.int32())
