"""Canonical rows: what is in the file, what is refused, and when it is made again."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc
import pytest
from blake3 import blake3

from tests.unit.data_samples import job, jsonl, labelled, parquet, texts
from tutelage.data.rows import ROWS_SCHEMA, read_rows
from tutelage.errors import DataError, StoreError

pytestmark = pytest.mark.unit


def table(rows) -> pa.Table:
    with pa.memory_map(str(rows.path)) as file:
        return pa.ipc.open_file(file).read_all()


def fails(tmp_path: Path, source: dict, **data) -> str:
    with pytest.raises(DataError) as caught:
        read_rows(job({"s": source}, **data), tmp_path / "home")
    assert caught.value.fix
    assert not list((tmp_path / "home").rglob("rows.arrow"))
    return str(caught.value)


def test_rows_carry_digest_names_label_and_row_number(tmp_path):
    path = labelled(tmp_path / "a.parquet", 10)
    rows = read_rows(
        job({"s": {"path": path, "slice": "shop", "splits": {"test": 2, "validation": 3}}}), tmp_path
    )
    found = table(rows)
    assert found.schema == ROWS_SCHEMA
    assert rows.counts == {"s": {"test": 2, "validation": 3, "train": 5}}
    assert rows.labelled == {"s": 10}
    assert rows.bad == {"s": {}}
    for row in found.to_pylist():
        number = row["row"] - 1
        assert row["text"] == f"text number {number}"
        assert row["label"] == number % 2
        assert row["digest"] == blake3(row["text"].encode()).digest(length=16)
        assert (row["source"], row["slice"]) == ("s", "shop")


def test_the_file_holds_test_then_validation_then_train_each_by_digest(tmp_path):
    source = {"path": labelled(tmp_path / "a.parquet", 40), "splits": {"test": 5, "validation": 5}}
    found = table(read_rows(job({"s": source}), tmp_path))
    assert found["split"].to_pylist() == ["test"] * 5 + ["validation"] * 5 + ["train"] * 30
    digests = found["digest"].to_pylist()
    assert digests == sorted(digests)


def test_the_split_of_a_text_does_not_depend_on_its_place_in_the_file(tmp_path):
    splits = {"test": 0.3, "validation": 0.2}
    there = parquet(tmp_path / "a.parquet", text=texts(50))
    back = parquet(tmp_path / "b.parquet", text=texts(50)[::-1])
    one, two = (
        table(read_rows(job({"s": {"path": p, "columns": {"label": None}, "splits": splits}}), tmp_path))
        for p in (there, back)
    )
    assert one.select(["text", "split"]).to_pylist() == two.select(["text", "split"]).to_pylist()


def test_equal_texts_of_two_sources_never_stand_in_two_splits(tmp_path):
    sources = {
        "a": {"path": labelled(tmp_path / "a.parquet", 60), "splits": {"test": 20, "validation": 10}},
        "b": {"path": labelled(tmp_path / "b.parquet", 30), "splits": {"test": 2, "validation": 2}},
        "c": {"path": labelled(tmp_path / "c.parquet", 8), "split": "test"},
    }
    rows = read_rows(job(sources), tmp_path)
    homes: dict[str, set[str]] = {}
    for row in table(rows).to_pylist():
        homes.setdefault(row["text"], set()).add(row["split"])
    assert all(len(splits) == 1 for splits in homes.values())
    assert rows.overlaps["b"] > 0
    assert rows.overlaps["c"] == 0
    assert sum(rows.counts["b"].values()) + rows.overlaps["b"] == 30


def test_many_rows_keep_their_text_over_several_record_batches(tmp_path):
    source = {"path": parquet(tmp_path / "a.parquet", text=texts(9000)), "columns": {"label": None}}
    rows = read_rows(job({"s": source}), tmp_path)
    found = table(rows)
    assert found["text"].num_chunks == 3
    assert all(
        row["text"] == f"text number {row['row'] - 1}" for row in found.select(["text", "row"]).to_pylist()
    )
    assert sorted(found["row"].to_pylist()) == list(range(1, 9001))
    digests = found["digest"].to_pylist()
    assert digests == sorted(digests)
    assert rows.counts["s"] == {"test": 900, "validation": 900, "train": 7200}


def test_labelled_unlabelled_and_half_labelled_sources_mix(tmp_path):
    sources = {
        "full": {"path": labelled(tmp_path / "a.parquet", 10, "full")},
        "none": {"path": parquet(tmp_path / "b.parquet", text=texts(10, "none")), "columns": {"label": None}},
        "half": {
            "path": parquet(
                tmp_path / "c.parquet", text=texts(4, "half"), label=["positive", None, None, "negative"]
            )
        },
    }
    rows = read_rows(job(sources), tmp_path)
    assert rows.labelled == {"full": 10, "none": 0, "half": 2}
    assert {row["label"] for row in table(rows).to_pylist() if row["source"] == "none"} == {-1}


def test_sources_that_share_a_slice_name_it_once(tmp_path):
    sources = {
        name: {"path": labelled(tmp_path / f"{name}.parquet", 10, name), "slice": "shop"}
        for name in ("a", "b")
    }
    assert table(read_rows(job(sources), tmp_path))["slice"].chunk(0).dictionary.to_pylist() == ["shop"]


# --- bad rows --------------------------------------------------------------------------------------

BAD = [
    {"text": "good one", "label": "positive"},
    {"text": "", "label": "positive"},
    {"text": "  \n", "label": "positive"},
    {"text": None, "label": "positive"},
    {"text": 7, "label": "positive"},
    {"text": "what", "label": "postive"},
    {"label": "positive"},
    {"text": "\ud800 alone", "label": "positive"},
    {"text": "good two", "label": "negative"},
    {"text": "list", "label": ["positive"]},
]


def test_bad_rows_give_one_error_with_reasons_rows_and_counts(tmp_path):
    path = jsonl(tmp_path / "bad.jsonl", BAD)
    with open(path, "a") as file:
        file.write('{"text": "cut\n\n[1]\n')
    with open(path, "ab") as file:
        file.write(b'{"text": "\xff\xfe", "label": "positive"}\n')
    message = fails(tmp_path, {"path": path})
    assert message.startswith("data.sources.s: 11 bad rows (")
    for reason in (
        f"{path}: empty text in rows 2, 3",
        f"{path}: null text in rows 4, 7",
        f"{path}: text of a wrong type in row 5",
        f"{path}: unknown label in rows 6, 10",
        f"{path}: invalid UTF-8 in rows 8, 14",
        f"{path}: broken JSON line in rows 11, 13",
        "labels found: 'postive', \"['positive']\"; allowed: negative, positive",
    ):
        assert reason in message
    assert "on_bad_row=skip" in message


def test_skip_leaves_bad_rows_out_and_counts_them(tmp_path):
    path = jsonl(tmp_path / "bad.jsonl", BAD)
    rows = read_rows(job({"s": {"path": path, "split": "train"}}, on_bad_row="skip"), tmp_path)
    assert rows.bad["s"] == {
        "empty text": 2, "null text": 2, "text of a wrong type": 1, "unknown label": 2, "invalid UTF-8": 1,
    }  # fmt: skip
    assert sorted(table(rows)["text"].to_pylist()) == ["good one", "good two"]
    assert sorted(table(rows)["row"].to_pylist()) == [1, 9]


def test_ten_row_numbers_of_a_reason_are_shown_over_all_files(tmp_path):
    for name in ("a", "b"):
        jsonl(tmp_path / f"{name}.jsonl", [{"text": "", "label": "positive"}] * 7)
    message = fails(tmp_path, {"path": str(tmp_path / "*.jsonl")})
    assert "a.jsonl: empty text in rows 1, 2, 3, 4, 5, 6, 7\n" in message
    assert "b.jsonl: empty text in rows 1, 2, 3, ... (14 in all)" in message


def test_a_source_in_which_no_row_is_left_is_an_error_even_with_skip(tmp_path):
    path = jsonl(tmp_path / "bad.jsonl", [{"text": "", "label": "positive"}] * 2)
    message = fails(tmp_path, {"path": path}, on_bad_row="skip")
    assert "no row is left (2 empty text)" in message
    assert "in rows 1, 2" in message


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet", "a.arrow"])
def test_an_empty_file_is_a_bad_row_of_any_format(tmp_path, name):
    (tmp_path / name).touch()
    labelled(tmp_path / "full.parquet", 20)
    assert f"{name}: empty file" in fails(tmp_path, {"path": str(tmp_path)})
    rows = read_rows(job({"s": {"path": str(tmp_path)}}, on_bad_row="skip"), tmp_path / "home")
    assert rows.bad["s"] == {"empty file": 1}
    assert sum(rows.counts["s"].values()) == 20


def test_a_label_column_without_any_label_is_refused(tmp_path):
    path = parquet(tmp_path / "a.parquet", text=texts(3), label=pa.nulls(3, pa.string()))
    assert "none of 3 rows has a value in the label column 'label'" in fails(tmp_path, {"path": path})


def test_a_source_label_map_must_lead_to_task_labels(tmp_path):
    path = labelled(tmp_path / "a.parquet", 4)
    message = fails(tmp_path, {"path": path, "labels": {"1": "postive"}})
    assert "'1' is mapped to 'postive', which is not one of task.labels: negative, positive" in message
    assert "write 'positive'" in message


def test_splits_larger_than_the_source_are_refused(tmp_path):
    path = labelled(tmp_path / "a.parquet", 10)
    assert "leave none to train on" in fails(tmp_path, {"path": path, "splits": {"test": 6, "validation": 6}})


# --- reuse -----------------------------------------------------------------------------------------


def test_a_second_call_reads_no_row(tmp_path, monkeypatch):
    path = tmp_path / "a.parquet"
    config = job({"s": {"path": labelled(path, 20)}})
    first = read_rows(config, tmp_path / "home")
    monkeypatch.setattr("tutelage.data.sources.READERS", {})
    assert read_rows(config, tmp_path / "home") == first


def test_a_changed_file_or_setting_changes_the_fingerprint(tmp_path):
    path = tmp_path / "a.parquet"
    source = {"path": labelled(path, 20)}
    prints = [read_rows(job({"s": source}), tmp_path).fingerprint]
    labelled(path, 21)
    os.utime(path, ns=(0, 0))
    prints.append(read_rows(job({"s": source}), tmp_path).fingerprint)
    prints.append(read_rows(job({"s": {**source, "limit": 15}}), tmp_path).fingerprint)
    prints.append(read_rows(job({"t": source}), tmp_path).fingerprint)
    prints.append(read_rows(job({"s": source}, ("positive", "negative")), tmp_path).fingerprint)
    prints.append(read_rows(job({"s": source}, on_bad_row="skip"), tmp_path).fingerprint)
    assert len(set(prints)) == len(prints)


def test_what_does_not_change_the_rows_does_not_change_the_fingerprint(tmp_path):
    source = {"path": labelled(tmp_path / "a.parquet", 20)}
    one, two = (read_rows(job({"s": source}, max_tokens=n), tmp_path) for n in (8, 16))
    assert one == two


def test_a_failure_while_writing_leaves_nothing_that_looks_finished(tmp_path):
    good = labelled(tmp_path / "a.parquet", 20)
    home = tmp_path / "home"
    with pytest.raises(DataError):
        read_rows(
            job({"a": {"path": good}, "b": {"path": jsonl(tmp_path / "b.jsonl", [{"text": ""}])}}), home
        )
    assert list((home / "rows").iterdir()) == []


def test_damaged_counts_are_reported(tmp_path):
    config = job({"s": {"path": labelled(tmp_path / "a.parquet", 20)}})
    rows = read_rows(config, tmp_path)
    (rows.path.parent / "rows.json").write_text(json.dumps({"surprise": 1}))
    with pytest.raises(StoreError, match="is damaged"):
        read_rows(config, tmp_path)


def test_small_local_files_are_known_by_their_bytes(tmp_path):
    """Touched, moved and copied they are the same rows; other bytes of the same size and time are others."""
    path = tmp_path / "a" / "rows.jsonl"
    path.parent.mkdir()
    path.write_text('{"text": "good film", "label": "positive"}\n')
    before = read_rows(job({"s": {"path": str(path)}}), tmp_path).fingerprint
    os.utime(path, ns=(0, 0))
    assert read_rows(job({"s": {"path": str(path)}}), tmp_path).fingerprint == before
    moved = tmp_path / "b" / "other.jsonl"
    moved.parent.mkdir()
    path.rename(moved)
    assert read_rows(job({"s": {"path": str(moved)}}), tmp_path).fingerprint == before
    moved.write_text('{"text": "good rest", "label": "positive"}\n')
    os.utime(moved, ns=(0, 0))
    assert read_rows(job({"s": {"path": str(moved)}}), tmp_path).fingerprint != before


def test_large_files_are_known_by_path_size_and_time(tmp_path, monkeypatch):
    monkeypatch.setattr("tutelage.data.sources.CONTENT_BYTES", 10)
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "good film", "label": "positive"}\n')
    before = read_rows(job({"s": {"path": str(path)}}), tmp_path).fingerprint
    os.utime(path, ns=(0, 0))
    assert read_rows(job({"s": {"path": str(path)}}), tmp_path).fingerprint != before
