"""Files of every format and place, and the hub, give the same raw rows."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import pytest

from tests.unit.data_samples import job, jsonl, labelled, parquet, texts
from tutelage.data.rows import read_rows
from tutelage.data.sources import open_source
from tutelage.errors import DataError, StoreError

pytestmark = pytest.mark.unit

ROWS = [("one, two", "positive"), ('with "quotes"', "negative"), ("two\nlines", "positive"), ("größer", None)]


def raw(tmp_path: Path, source: dict) -> list[tuple]:
    """(row, text, label) of every raw row, decoded."""
    config = job({"s": source})
    opened = open_source("s", config.data.sources["s"], tmp_path, config.task)

    def plain(value):
        return value.decode() if isinstance(value, bytes) else value

    found = []
    for batch in opened.read():
        assert not batch.flaws
        labels = batch.values.get("label", [None] * len(batch.rows))
        values = zip(batch.rows, batch.values["text"], labels, strict=True)
        found += [(row, plain(text), plain(label) or None) for row, text, label in values]
    return found


def fails(tmp_path: Path, source: dict, kind: type[Exception] = DataError) -> str:
    with pytest.raises(kind) as caught:
        read_rows(job({"s": source}), tmp_path / "home")
    return str(caught.value)


def sample() -> pa.Table:
    return pa.table(
        {"label": [label for _, label in ROWS], "text": [text for text, _ in ROWS], "n": [1, 2, 3, 4]}
    )


def write_ipc(path: Path, table: pa.Table, *, stream: bool = False) -> None:
    opener = pa.ipc.new_stream if stream else pa.ipc.new_file
    with opener(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=3)


def write_csv(path: Path, delimiter: str = ",") -> None:
    lines = [delimiter.join(("label", "text"))]
    lines += [delimiter.join((label or "", '"' + text.replace('"', '""') + '"')) for text, label in ROWS]
    path.write_text("\r\n".join(lines) + "\r\n", newline="")


WRITERS = {
    "a.parquet": lambda path: pa.parquet.write_table(sample(), path),
    "a.arrow": lambda path: write_ipc(path, sample()),
    "stream.arrow": lambda path: write_ipc(path, sample(), stream=True),
    "a.jsonl": lambda path: jsonl(path, sample().to_pylist()),
    "a.csv": write_csv,
    "a.tsv": lambda path: write_csv(path, "\t"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_rows(tmp_path, name):
    WRITERS[name](tmp_path / name)
    expected = [(i, text, label) for i, (text, label) in enumerate(ROWS, start=1)]
    assert raw(tmp_path, {"path": str(tmp_path / name)}) == expected


@pytest.mark.parametrize(
    "kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string()), pa.binary()]
)
def test_every_arrow_kind_of_text_is_read(tmp_path, kind):
    column = pa.array(["a", None, "b"], kind.value_type if pa.types.is_dictionary(kind) else kind)
    if pa.types.is_dictionary(kind):
        column = column.dictionary_encode()
    write_ipc(tmp_path / "a.arrow", pa.table({"text": column}))
    source = {"path": str(tmp_path / "a.arrow"), "columns": {"label": None}}
    assert raw(tmp_path, source) == [(1, "a", None), (2, None, None), (3, "b", None)]


def test_invalid_utf8_is_found_in_csv_parquet_and_its_row_is_named(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"text,label\nfine,positive\n\xff\xfe,positive\nfine,\xe9\n")
    broken = pa.array([b"fine", b"\xff\xfe"], pa.binary()).view(pa.string())
    pa.parquet.write_table(
        pa.table({"text": broken, "label": ["positive", "positive"]}), tmp_path / "b.parquet"
    )
    assert "invalid UTF-8 in rows 2, 3" in fails(tmp_path, {"path": str(tmp_path / "a.csv")})
    assert "invalid UTF-8 in row 2" in fails(tmp_path, {"path": str(tmp_path / "b.parquet")})


def test_a_csv_row_with_too_many_fields_is_bad(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\nfine,positive\none,two,positive\n\nlast,negative\n")
    assert "wrong number of fields in row 2" in fails(tmp_path, {"path": str(tmp_path / "a.csv")})


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbftext,label\nfine,positive\n")
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "fine", "label": "positive"}\n')
    for name in ("a.csv", "a.jsonl"):
        assert raw(tmp_path, {"path": str(tmp_path / name)}) == [(1, "fine", "positive")]


def test_columns_are_mapped_by_name(tmp_path):
    path = parquet(tmp_path / "a.parquet", body=["x y"], stars=[1])
    assert raw(tmp_path, {"path": path, "columns": {"text": "body", "label": "stars"}}) == [(1, "x y", 1)]


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.jsonl", "a.csv"])
def test_a_missing_column_names_those_that_exist_and_a_suggestion(tmp_path, name):
    WRITERS[name](tmp_path / name)
    source = {"path": str(tmp_path / name), "columns": {"text": "texts"}}
    message = fails(tmp_path, source)
    assert f"{name} has no column 'texts'; its columns are label, text" in message
    assert "data.sources.s.columns.text: text" in message
    message = fails(tmp_path, {"path": str(tmp_path / name), "columns": {"label": "sentiment"}})
    assert "has no column 'sentiment'" in message
    assert "or null when the source has no labels" in message


def test_files_of_a_folder_are_read_in_name_order_without_hidden_ones(tmp_path):
    for name in ("b", "a", "deep/c", ".hidden", "_part"):
        labelled(tmp_path / f"data/{name}.parquet", 1, name)
    (tmp_path / "data/README.md").write_text("no data")
    found = [text for _, text, _ in raw(tmp_path, {"path": str(tmp_path / "data")})]
    assert found == ["a number 0", "b number 0", "deep/c number 0"]


def test_a_glob_takes_what_it_matches(tmp_path):
    for name in ("a1", "a2", "b1"):
        labelled(tmp_path / f"{name}.parquet", 1, name)
    assert len(raw(tmp_path, {"path": str(tmp_path / "a*.parquet")})) == 2
    assert "no such file" in fails(tmp_path, {"path": str(tmp_path / "z*.parquet")})


def test_compressed_lines_and_an_fsspec_url_are_read(tmp_path):
    jsonl(tmp_path / "a.jsonl", [{"text": "x", "label": "positive"}])
    packed = gzip.compress((tmp_path / "a.jsonl").read_bytes())
    (tmp_path / "b.jsonl.gz").write_bytes(packed)
    memory = fsspec.filesystem("memory")
    memory.pipe("/bucket/c.jsonl.gz", packed)
    try:
        for path in (str(tmp_path / "b.jsonl.gz"), "memory://bucket/c.jsonl.gz", "memory://bucket"):
            assert raw(tmp_path, {"path": path}) == [(1, "x", "positive")]
    finally:
        memory.rm("/bucket", recursive=True)


def test_a_changed_remote_file_changes_the_stamp():
    memory = fsspec.filesystem("memory")
    config = job({"s": {"path": "memory://stamps/a.jsonl"}})
    stamps = []
    try:
        for content in (b'{"text": "x"}\n', b'{"text": "y"}\n'):
            memory.pipe("/stamps/a.jsonl", content)
            stamps.append(open_source("s", config.data.sources["s"], Path(), config.task).stamp)
    finally:
        memory.rm("/stamps", recursive=True)
    assert stamps[0] != stamps[1]


def test_the_format_can_be_named_when_the_ending_says_nothing(tmp_path):
    path = tmp_path / "lines.log"
    jsonl(path, [{"text": "x", "label": "positive"}])
    assert raw(tmp_path, {"path": str(path), "format": "jsonl"}) == [(1, "x", "positive")]
    message = fails(tmp_path, {"path": str(path)})
    assert "the format of" in message
    assert ".parquet" in message


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.jsonl.gz", "a.jsonl.xz"])
def test_a_file_that_is_not_what_it_says_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"this is something else entirely")
    assert f"{name} cannot be read" in fails(tmp_path, {"path": str(tmp_path / name)})


def test_a_missing_place_and_an_unknown_protocol_are_refused(tmp_path):
    assert "no such file" in fails(tmp_path, {"path": str(tmp_path / "none.parquet")})
    assert "nosuch" in fails(tmp_path, {"path": "nosuch://bucket/a.parquet"})


@pytest.mark.parametrize("limit", [1, 3, 4100])
def test_limit_reads_the_first_rows_over_files(tmp_path, limit):
    for name in ("a", "b"):
        labelled(tmp_path / f"{name}.parquet", 4098, name)
    found = raw(tmp_path, {"path": str(tmp_path), "limit": limit})
    assert len(found) == limit
    assert found[-1][1] == ("b number 1" if limit == 4100 else f"a number {limit - 1}")


def test_limit_counts_rows_that_cannot_be_read(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "x", "label": "positive"}\nbroken\n{"text": "late"}\n')
    source = {"path": str(tmp_path / "a.jsonl"), "limit": 2, "split": "train"}
    rows = read_rows(job({"s": source}, on_bad_row="skip"), tmp_path)
    assert rows.bad["s"] == {"broken JSON line": 1}
    assert rows.counts["s"]["train"] == 1


# --- hub -------------------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch):
    """The hub client with `load_dataset` answered from memory."""
    datasets = pytest.importorskip("datasets")
    found: dict[str, object] = {}

    def load(name, config=None, *, split, revision):
        if name not in found:
            raise datasets.exceptions.DatasetNotFoundError(f"{name} is not there")
        if isinstance(found[name], Exception):
            raise found[name]
        return found[name]

    monkeypatch.setattr(datasets, "load_dataset", load)
    return datasets, found


def test_a_hub_data_set_gives_class_names(hub, tmp_path):
    datasets, found = hub
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["positive", "negative"])}
    )
    found["org/set"] = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]}, features=features)
    source = {"type": "hub", "dataset": "org/set"}
    assert raw(tmp_path, source) == [(1, "a", "positive"), (2, "b", "negative")]
    mapped = {**source, "labels": {"0": "negative", "1": "positive"}}
    assert raw(tmp_path, mapped) == [(1, "a", "positive"), (2, "b", "negative")]


def test_numbers_of_a_hub_data_set_can_be_mapped_when_its_names_are_foreign(hub, tmp_path):
    datasets, found = hub
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])}
    )
    found["org/set"] = datasets.Dataset.from_dict(
        {"text": texts(20), "label": [0, 1] * 10}, features=features
    )
    source = {"type": "hub", "dataset": "org/set"}
    rows = read_rows(job({"s": {**source, "labels": {"0": "negative", "1": "positive"}}}), tmp_path)
    assert rows.labelled == {"s": 20}
    assert "labels found: 'neg', 'pos'; allowed: negative, positive" in fails(tmp_path, source)


def test_hub_failures_say_what_to_check(hub, tmp_path, monkeypatch):
    _, found = hub
    found["org/offline"] = ConnectionError("no route")
    assert "the hub has no data set 'org/none'" in fails(tmp_path, {"type": "hub", "dataset": "org/none"})
    assert "does not answer" in fails(tmp_path, {"type": "hub", "dataset": "org/offline"}, StoreError)
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "pip install 'tutelage[hub]'" in fails(tmp_path, {"type": "hub", "dataset": "org/none"})
