"""What was forgotten is in no file any more, and the search for it finds what is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from tests.unit.replay_samples import KINDS, filled, item, mixed
from tutelage.continual.replay import KindName, load, save, traces
from tutelage.errors import StoreError

pytestmark = pytest.mark.unit

SECRET = "my number is 555-0199, call me"


@pytest.mark.parametrize("kind", KINDS)
def test_a_deleted_example_is_found_before_and_not_after(kind: KindName, tmp_path: Path) -> None:
    person = item(10_001, SECRET, slice="films", logits_by="model-of-her-data")
    budget = 10**6
    folder = tmp_path / "buffer"
    buffer = filled([*mixed(200), person], budget, kind)
    save(buffer, folder)
    wanted = [person.id, SECRET, SECRET[3:20], "model-of-her-data"]
    for needle in wanted:
        assert traces(folder, [needle]) == ["films.parquet"]
    proof = buffer.delete([person.id])
    assert traces(folder, wanted) == ["films.parquet"]  # not saved yet
    save(buffer, folder)
    assert proof.found == (person.id,)
    assert traces(folder, wanted) == []
    twin = load(folder)
    assert twin.digest() == proof.digest
    assert len(twin) == proof.left == 200


def test_the_only_example_of_a_slice_and_label_leaves_not_even_their_names(tmp_path: Path) -> None:
    """Its group had a bound, which `buffer.json` names."""
    person = [item(n, SECRET, label="diagnosis-a", slice="patients") for n in (901, 902)]
    buffer = filled([*person, *mixed(100)], 2_000, "balanced")
    save(buffer, tmp_path / "buffer")
    assert traces(tmp_path / "buffer", ["diagnosis-a", "patients"]) == ["buffer.json", "patients.parquet"]
    buffer.delete([one.id for one in person])
    save(buffer, tmp_path / "buffer")
    assert traces(tmp_path / "buffer", ["diagnosis-a", "patients", SECRET]) == []


@pytest.mark.parametrize(
    "columns",
    [
        {"tokens": ["say", SECRET]},
        {"answers": {"text": [SECRET], "answer_start": [0]}},
        {"raw": SECRET.encode()},
        {"text": f"long {'x' * 5000} {SECRET} {'y' * 5000}"},
        {"text": "x", "label_of": {"deep": [{"er": SECRET}]}},
    ],
    ids=["list", "mapping", "bytes", "within a long text", "deep"],
)
def test_every_column_is_searched_whatever_it_holds(columns: dict[str, Any], tmp_path: Path) -> None:
    save(filled([item(1, columns=columns), item(2, slice="films")], 10**6), tmp_path / "buffer")
    assert traces(tmp_path / "buffer", [SECRET]) == ["books.parquet"]
    assert traces(tmp_path / "buffer", ["not there at all"]) == []


def test_the_digest_is_found_where_the_id_is_another(tmp_path: Path) -> None:
    save(filled([item(1, id="customer-1")], 10**6), tmp_path / "buffer")
    assert traces(tmp_path / "buffer", [item(1).id]) == ["books.parquet"]
    assert traces(tmp_path / "buffer", ["customer-1"]) == ["books.parquet"]
    assert traces(tmp_path / "buffer", [item(2).id, "z" * 32, ""]) == []


def test_a_short_id_is_found_as_a_value_but_not_within_others(tmp_path: Path) -> None:
    save(filled([item(1, "7 and 8", id="7")], 10**6), tmp_path / "buffer")
    assert traces(tmp_path / "buffer", ["7"]) == ["books.parquet"]
    assert traces(tmp_path / "buffer", ["8"]) == []


def test_metadata_and_leftovers_of_a_killed_save_are_found(tmp_path: Path) -> None:
    """Also escaped text, a file of another kind, and a folder beside the buffer."""
    folder = tmp_path / "buffer"
    save(filled([item(1)], 10**6), folder)
    table = pa.table({"x": [1]}).replace_schema_metadata({"note": SECRET})
    pyarrow.parquet.write_table(table, folder / "extra.parquet")
    (folder / "notes.txt").write_text(f"about {SECRET}")
    (folder / "more.json").write_text('{"text": "gr\\u00fc\\u00df dich, leser"}')
    left = tmp_path / ".buffer.host.1.x"
    left.mkdir()
    (left / "books.parquet").write_bytes((folder / "books.parquet").read_bytes())
    assert traces(folder, [SECRET]) == ["extra.parquet", "notes.txt"]
    assert traces(folder, ["grüß dich, leser"]) == ["more.json"]
    assert traces(folder, ["text of example 1"]) == ["../.buffer.host.1.x/books.parquet", "books.parquet"]


@pytest.mark.parametrize("name", ["books.parquet", "buffer.json"])
def test_a_file_that_cannot_be_decoded_proves_nothing(name: str, tmp_path: Path) -> None:
    save(filled([item(1)], 10**6), tmp_path / "buffer")
    (tmp_path / "buffer" / name).write_bytes(b"\xff torn")
    with pytest.raises(StoreError, match=f"{name} cannot be decoded"):
        traces(tmp_path / "buffer", [SECRET])


def test_a_folder_that_is_not_there_proves_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no folder"):
        traces(tmp_path / "buffer", [SECRET])
