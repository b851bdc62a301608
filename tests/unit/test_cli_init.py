"""`tutelage init`: the file it writes is a valid job, and it finds the columns of own data."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import feather, parquet

from tutelage.cli.columns import find_columns
from tutelage.cli.main import main
from tutelage.config.data import FileSource
from tutelage.config.load import load_job
from tutelage.errors import DataError

pytestmark = pytest.mark.unit

ROWS: list[dict[str, Any]] = [
    {"id": i, "body": f"a text of several words, number {i}", "mood": ["good", "bad", "no"][i % 3]}
    for i in range(30)
]


def call(*words: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    return main(["init", *words], stdout=out, stderr=err), out.getvalue(), err.getvalue()


def write(folder: Path, ending: str, rows: list[dict[str, Any]] = ROWS) -> Path:
    path = folder / f"my data.{ending}"
    if ending == "jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows))
    elif ending in ("csv", "tsv"):
        mark = "," if ending == "csv" else "\t"
        lines = [mark.join(rows[0]), *(mark.join(f'"{value}"' for value in row.values()) for row in rows)]
        path.write_text("\n".join(lines))
    elif ending == "parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
    else:
        feather.write_feather(pa.Table.from_pylist(rows), path)
    return path


def test_without_data_the_job_and_its_example_are_valid(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "My Job!"
    code, out, _ = call(str(folder))
    assert code == 0
    assert f"next: tutelage config check {folder / 'job.yaml'}" in out
    job = load_job(folder / "job.yaml").job
    assert job.name == "my-job"
    source = job.data.sources["example"]
    assert isinstance(source, FileSource)
    assert Path(source.path) == folder / "example.csv"
    assert find_columns(str(folder / "example.csv"), "s").labels == ["negative", "positive"]
    # Two cores hold the student's worker and all teachers at once: with less, the first run waits for ever.
    assert job.train.workers * job.train.cpus_per_worker + sum(t.num_cpus for t in job.teachers) <= 2


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet", "arrow"])
def test_with_data_its_columns_and_labels_are_filled_in(tmp_path: Path, ending: str) -> None:
    """A label `no` stays text, and a path with a space stays one path."""
    data = write(tmp_path, ending)
    code, out, _ = call(str(tmp_path), "--data", str(data))
    assert code == 0
    assert "label column  mood, 30 rows: bad 10, good 10, no 10" in out
    job = load_job(tmp_path / "job.yaml").job
    source = job.data.sources["my-data"]
    assert isinstance(source, FileSource)
    assert source.path == str(data)
    assert source.columns.read("sequence-classification") == {"text": "body", "label": "mood"}
    assert job.task.labels == ["bad", "good", "no"]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "example.csv").write_text("mine")
    code, _, err = call(str(tmp_path))
    assert code == 2
    assert "example.csv exists already" in err
    assert not (tmp_path / "job.yaml").exists()
    assert (tmp_path / "example.csv").read_text() == "mine"


def test_columns_can_be_said(tmp_path: Path) -> None:
    rows = [
        {"a": f"some words {i}", "b": f"other words {i}", "c": str(i % 2), "d": str(i % 3)} for i in range(12)
    ]
    path = write(tmp_path, "csv", rows)
    with pytest.raises(DataError, match="cannot tell which of a, b, c, d is the label"):
        find_columns(str(path), "s")
    found = find_columns(str(path), "s", text="a", label="d")
    assert (found.text, found.label, found.counts) == ("a", "d", {"0": 4, "1": 4, "2": 4})


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.csv", "", "holds no rows"),
        ("x.csv", "text,label\n", "holds no rows"),
        ("x.xlsx", "?", "is not known from its ending"),
        ("x.jsonl", '{"text": "a"\n', "holds no rows"),
        ("x.jsonl", "[1]\n", "a JSON array"),
        ("x.txt", "a text\n", "cannot tell which of text is the label column"),
        ("x.parquet", "not parquet", "cannot be read"),
        ("x.csv", "text,label\nab,one\ncd,one\n", "holds 1 different labels"),
        ("x.csv", "number\n1\n2\n", "cannot tell which of number is the text column"),
    ],
)
def test_data_that_cannot_be_used(tmp_path: Path, name: str, content: str, says: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    code, _, err = call(str(tmp_path), "--data", str(path))
    assert code == 2
    assert says in err
    assert "fix:" in err
    assert not (tmp_path / "job.yaml").exists()


def test_wrong_columns_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "csv")
    assert "no such column, only id, body, mood" in call(str(tmp_path), "--data", str(path), "--text", "x")[2]
    assert "no such file" in call(str(tmp_path), "--data", str(tmp_path / "none.csv"))[2]
    assert "add --data FILE" in call(str(tmp_path), "--text", "x")[2]
