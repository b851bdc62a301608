"""A buffer comes back from its folder as it was, or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from tests.unit.replay_samples import KINDS, filled, item, mixed, saved
from tutelage.config.data import FileSource
from tutelage.config.task import SequenceClassification
from tutelage.continual.replay import Buffer, KindName, load, save
from tutelage.data.sources import open_source
from tutelage.errors import DataError, StoreError

pytestmark = pytest.mark.unit
every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
def test_a_buffer_comes_back_as_it_was(kind: KindName, tmp_path: Path) -> None:
    for budget in (50, 3_000, 10**6):
        buffer = filled(mixed(200), budget, kind)
        files = saved(buffer, tmp_path / "one")
        twin = load(tmp_path / "one")
        assert list(twin) == list(buffer)
        assert twin.state() == buffer.state()
        assert twin.bytes == buffer.bytes
        assert saved(twin, tmp_path / "two") == files


@every_kind
def test_going_on_after_a_load_is_as_if_there_was_no_break(kind: KindName, tmp_path: Path) -> None:
    items = mixed(300)
    for budget in (1_000, 8_000, 10**6):
        at_once = saved(filled(items, budget, kind), tmp_path / "at-once")
        save(filled(items[:150], budget, kind), tmp_path / "half")
        resumed = load(tmp_path / "half")
        resumed.add(items[150:])
        assert saved(resumed, tmp_path / "half") == at_once


@every_kind
def test_equal_content_is_equal_bytes_and_says_its_digest(kind: KindName, tmp_path: Path) -> None:
    buffer = filled(mixed(100), 5_000, kind)
    files = saved(buffer, tmp_path / "one")
    assert saved(filled(mixed(100)[::-1], 5_000, kind), tmp_path / "two") == files
    about = json.loads(files["buffer.json"])
    assert about["digest"] == buffer.digest()
    assert about["counts"] == [[*group, count] for group, count in buffer.counts().items()]
    assert saved(filled(mixed(100), 5_000, kind, seed=8), tmp_path / "two") != files


def test_a_slice_is_a_data_source_with_the_default_columns(tmp_path: Path) -> None:
    save(filled(mixed(60), 10**6), tmp_path / "buffer")
    path = tmp_path / "buffer" / "books.parquet"
    task = SequenceClassification(type="sequence-classification", labels=["bad", "good"])
    opened = open_source("replay", FileSource(path=str(path)), tmp_path, task)
    rows = list(opened.read())
    expected = [one for one in load(tmp_path / "buffer") if one.slice == "books"]
    found = {
        key: [one and one.decode() for batch in rows for one in batch.values[key]] for key in rows[0].values
    }
    assert found == {
        "text": [one.columns["text"] for one in expected],
        "label": [one.label for one in expected],
    }


@pytest.mark.parametrize(
    "columns",
    [
        {"tokens": ["a", "b"], "tags": ["O", "B-X"]},
        {"tokens": [], "tags": []},
        {"question": "q", "context": "c", "answers": {"text": ["a"], "answer_start": [3]}},
        {"prompt": "p", "completion": "ü\n\"'"},
        {"raw": b"\x00\xff", "count": -3, "ratio": 0.1, "yes": True, "gaps": [1, None]},
        {},
    ],
    ids=["tags", "no tokens", "answers", "completion", "other types", "nothing"],
)
def test_the_columns_of_every_task_come_back(columns: dict[str, Any], tmp_path: Path) -> None:
    buffer = filled([item(1, columns=columns, label=None), item(2, columns=columns, label=None)], 10_000)
    save(buffer, tmp_path / "buffer")
    assert [one.columns for one in load(tmp_path / "buffer")] == [columns, columns]
    names = pyarrow.parquet.read_schema(tmp_path / "buffer" / "books.parquet").names
    assert [name for name in names if not name.startswith("_")] == sorted(columns)


def test_absent_is_as_good_as_none_also_within_mappings(tmp_path: Path) -> None:
    rows = [{"a": 1, "m": {"x": 1, "y": None}}, {"b": 2, "a": None, "m": {"y": "2"}}]
    buffer = filled([item(number, columns=columns) for number, columns in enumerate(rows)], 10_000)
    save(buffer, tmp_path / "buffer")
    found = sorted((one.columns for one in load(tmp_path / "buffer")), key=str)
    assert found == [{"a": 1, "m": {"x": 1}}, {"b": 2, "m": {"y": "2"}}]


def test_values_of_different_types_are_refused_and_the_old_folder_stays(tmp_path: Path) -> None:
    files = saved(filled([item(1)], 10_000), tmp_path / "buffer")
    with pytest.raises(DataError, match=r"slice 'books', column 'text'.*different types"):
        save(filled([item(1), item(2, columns={"text": 5})], 10_000), tmp_path / "buffer")
    assert {path.name: path.read_bytes() for path in (tmp_path / "buffer").iterdir()} == files


def test_a_save_that_fails_leaves_the_old_folder_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails in the second of three files."""
    files = saved(filled(mixed(50), 10**6), tmp_path / "buffer")
    write, written = pyarrow.parquet.write_table, []

    def fail_later(table: Any, path: Path, **options: Any) -> None:
        if written:
            raise OSError(28, "No space left on device")
        written.append(path)
        write(table, path, **options)

    monkeypatch.setattr(pyarrow.parquet, "write_table", fail_later)
    with pytest.raises(StoreError, match=r"buffer cannot be written.*No space"):
        save(filled(mixed(90), 10**6), tmp_path / "buffer")
    assert len(written) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["buffer"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "buffer").iterdir()} == files
    assert len(load(tmp_path / "buffer")) == 50


def test_a_slice_that_is_gone_has_no_file_any_more(tmp_path: Path) -> None:
    buffer = filled([item(1), item(2, slice="films")], 10_000)
    assert set(saved(buffer, tmp_path / "buffer")) == {"books.parquet", "films.parquet", "buffer.json"}
    buffer.delete([item(2).id])
    assert set(saved(buffer, tmp_path / "buffer")) == {"books.parquet", "buffer.json"}
    assert set(saved(Buffer(5), tmp_path / "buffer")) == {"buffer.json"}
    assert len(load(tmp_path / "buffer")) == 0


def test_every_flipped_byte_of_a_slice_is_found_and_its_file_named(tmp_path: Path) -> None:
    files = saved(filled(mixed(20), 10**6), tmp_path / "buffer")
    whole = files["films.parquet"]
    path = tmp_path / "buffer" / "films.parquet"
    for at in range(0, len(whole), 97):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(StoreError, match=r"buffer/films\.parquet.*bytes are not those"):
            load(tmp_path / "buffer")
    path.write_bytes(whole[:-1])
    with pytest.raises(StoreError, match=r"films\.parquet"):
        load(tmp_path / "buffer")
    path.write_bytes(whole)
    assert len(load(tmp_path / "buffer")) == 20


@pytest.mark.parametrize("name", ["films.parquet", "buffer.json"])
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    save(filled(mixed(20), 10**6), tmp_path / "buffer")
    (tmp_path / "buffer" / name).unlink()
    with pytest.raises(StoreError, match=f"buffer/{name}: no such file") as caught:
        load(tmp_path / "buffer")
    assert f"{tmp_path}/buffer" in caught.value.fix


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("format", 2, "format 2, known is 1"),
        ("seed", 8, "digest"),
        ("budget_bytes", 10**7, "digest"),
        ("budget_bytes", -1, "-1 bytes"),
        ("kind", "balanced", "digest"),
        ("kind", "fifo", "fifo"),
        ("bounds", [["", None, 5]], "digest"),
        ("files", {}, "digest"),
        ("digest", "0" * 64, "digest"),
        ("digest", None, "digest"),
    ],
)
def test_a_changed_state_is_found(key: str, value: Any, said: str, tmp_path: Path) -> None:
    save(filled(mixed(20), 10**6), tmp_path / "buffer")
    path = tmp_path / "buffer" / "buffer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(StoreError, match=rf"buffer\.json: .*{said}"):
        load(tmp_path / "buffer")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', "\x00"])
def test_a_state_that_is_none_is_damage(text: str, tmp_path: Path) -> None:
    (tmp_path / "buffer.json").write_text(text)
    with pytest.raises(StoreError, match=r"buffer\.json"):
        load(tmp_path)
