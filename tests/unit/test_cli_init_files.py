"""`tutelage init` reads a file as the job that it writes will: odd files, generated and named."""

from __future__ import annotations

import csv
import gzip
import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from tutelage.cli.main import main
from tutelage.config.load import load_job
from tutelage.data.rows import RowSet, read_rows
from tutelage.testing import tiny_classifier

pytestmark = pytest.mark.unit


def call(*words: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    return main(list(words), stdout=out, stderr=err), out.getvalue(), err.getvalue()


def begun(folder: Path, content: bytes, name: str) -> tuple[dict[str, Any], RowSet, str]:
    """What init says of a file in JSON, the rows that its job reads, and the job's text."""
    folder.mkdir(exist_ok=True, parents=True)
    data = folder / name
    data.write_bytes(content)
    code, out, err = call("--json", "init", str(folder / "job"), "--data", str(data))
    assert code == 0, err
    job = folder / "job" / "job.yaml"
    assert call("config", "check", str(job))[0] == 0
    return json.loads(out)["data"], read_rows(load_job(job).job, folder / "home"), job.read_text()


def told(rows: RowSet) -> dict[str, int]:
    """Label -> rows over all splits of the one source."""
    counts: dict[str, int] = {}
    for parts in rows.classes.values():
        for split in parts.values():
            for label, count in split.items():
                counts[label] = counts.get(label, 0) + count
    return counts


LABELS = st.one_of(
    st.lists(st.booleans(), min_size=8, max_size=8),
    st.lists(st.integers(-2, 5), min_size=8, max_size=8),
    st.lists(st.sampled_from([0.0, 0.5, 1.0, -2.5]), min_size=8, max_size=8),
    st.lists(st.sampled_from([Decimal("1.50"), Decimal("2.00"), Decimal("-3.25")]), min_size=8, max_size=8),
    st.lists(
        st.sampled_from(["no", "No ", "yes", "null", "1", "a: b", "#x", "{y}", "'", "größe"]),
        min_size=8,
        max_size=8,
    ),
).filter(lambda labels: len({str(label).strip().casefold() for label in labels}) > 1)
ENDINGS = ["csv", "tsv", "jsonl", "parquet", "csv.gz", "tsv.gz", "jsonl.gz"]


@st.composite
def files(draw: st.DrawFn) -> tuple[str, bytes]:
    labels = draw(LABELS)
    signs = st.sampled_from('ab ,;\t"ö#:')
    rows = [
        (f"a text of words, {i} {draw(st.text(signs, max_size=6))}", label) for i, label in enumerate(labels)
    ]
    rows += [("no label here", None)] * draw(st.integers(0, 2))
    ending = draw(st.sampled_from(ENDINGS))
    kind = ending.removesuffix(".gz")
    if kind == "parquet":
        sink = io.BytesIO()
        parquet.write_table(pa.table({"text": [t for t, _ in rows], "label": [k for _, k in rows]}), sink)
        content = sink.getvalue()
    elif kind == "jsonl":
        lines = [json.dumps({"text": text, "label": label}, default=float) for text, label in rows]
        content = (draw(st.sampled_from(["\n", "\r\n", "\r"])).join([*lines, ""])).encode()
    else:
        content = draw(delimited(rows, "\t" if kind == "tsv" else draw(st.sampled_from(",;|"))))
    return f"my file.{ending}", gzip.compress(content) if ending.endswith(".gz") else content


@st.composite
def delimited(draw: st.DrawFn, rows: list[tuple[str, Any]], mark: str) -> bytes:
    """A table with any line end, byte order mark, encoding, and maybe rows of a wrong length."""
    sink = io.StringIO()
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    writer = csv.writer(sink, delimiter=mark, lineterminator=end, quoting=draw(st.sampled_from([0, 1])))
    header = draw(st.sampled_from([("text", "label"), ("Text", "Sentiment")]))
    writer.writerow(header)
    writer.writerows((text, "" if label is None else label) for text, label in rows)
    if draw(st.booleans()):
        writer.writerow(["one", "two", "three"])
    return sink.getvalue().encode(draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"])))


@settings(max_examples=60, deadline=None)
@given(files())
def test_the_job_of_a_generated_file_reads_what_init_saw(
    tmp_path_factory: Any, file: tuple[str, bytes]
) -> None:
    """config check passes, every row is read or counted as bad, and both count the same labels."""
    seen, rows, text = begun(tmp_path_factory.mktemp("file"), file[1], file[0])
    counts = told(rows)
    counts.pop("")
    assert {label: count for label, count in counts.items() if count} == seen["labels"]
    assert sum(seen["labels"].values()) == 8
    assert next(iter(rows.bad.values())) == seen["bad"]
    assert ("on_bad_row: skip" in text) == bool(seen["bad"])


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([True, False], ["false", "true"]),
        ([1.0, 0.5], ["0.5", "1"]),
        ([Decimal("1.50"), Decimal("2.00")], ["1.5", "2"]),
        ([b"x", b"y"], ["x", "y"]),
    ],
)
def test_labels_are_written_as_the_job_compares_them(
    tmp_path: Path, values: list[Any], labels: list[str]
) -> None:
    sink = io.BytesIO()
    table = {"text": [f"row number {i}" for i in range(10)], "label": values * 5}
    parquet.write_table(pa.table(table), sink)
    seen, rows, _ = begun(tmp_path, sink.getvalue(), "a.parquet")
    assert list(seen["labels"]) == labels
    assert next(iter(rows.labelled.values())) == 10


def test_labels_that_differ_in_case_or_space_alone_are_told_and_read_as_one(tmp_path: Path) -> None:
    content = "text,label\n" + "".join(
        f"row {i},{k}\n" for i, k in enumerate(["pos"] * 5 + ["Pos", " pos", "neg"])
    )
    seen, rows, text = begun(tmp_path, content.encode(), "a.csv")
    assert seen["labels"] == {"neg": 1, "pos": 7}
    assert seen["spellings"] == {"Pos": "pos", " pos": "pos"}
    assert next(iter(rows.labelled.values())) == 8
    assert "labels: [neg, pos]" in text
    out = call("init", str(tmp_path / "other"), "--data", str(tmp_path / "a.csv"))[1]
    assert "'Pos' is read as 'pos'" in out
    assert "text column   text: row 0" in out


def test_a_file_without_header_is_told_from_one_with(tmp_path: Path) -> None:
    body = "".join(f"what happened in row {i},{('up', 'down')[i % 2]}\n" for i in range(20))
    seen, _, text = begun(tmp_path / "without", body.encode(), "a.csv")
    assert seen["columns"] == {"text": "c1", "label": "c2"}
    assert "header: false" in text
    seen, _, text = begun(tmp_path / "with", b"what,kind\n" + body.encode(), "a.csv")
    assert seen["columns"] == {"text": "what", "label": "kind"}
    assert "header:" not in text


def test_ragged_rows_are_no_classes(tmp_path: Path) -> None:
    body = "".join(f"row {i},{('up', 'down')[i % 2]}\n" for i in range(20)) + "one, two, three\nalone\n"
    seen, rows, text = begun(tmp_path, f"text,label\n{body}".encode(), "a.csv")
    assert seen["labels"] == {"down": 10, "up": 10}
    assert seen["bad"] == {"wrong number of fields": 2}
    assert "on_bad_row: skip" in text
    assert sum(rows.counts["a"].values()) == 20


def test_of_two_columns_with_one_name_people_say_which(tmp_path: Path) -> None:
    data = tmp_path / "a.csv"
    data.write_text("text,text,label\n" + "".join(f"a{i},b{i},{i % 2}\n" for i in range(9)))
    code, _, err = call("init", str(tmp_path / "job"), "--data", str(data))
    assert (code, "cannot tell which of text#1, text#2, label is the text column" in err) == (2, True)
    assert call("init", str(tmp_path / "job"), "--data", str(data), "--text", "text#2")[0] == 0


def test_a_folder_a_glob_and_a_packed_file_are_data_too(tmp_path: Path) -> None:
    rows = "text,label\n" + "".join(f"row {i},{i % 2}\n" for i in range(20))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.csv.gz").write_bytes(gzip.compress(rows.encode()))
    for name, path in (("0", "data"), ("null", "data/*.gz"), ("1e3", "data/a.csv.gz")):
        folder = str(tmp_path / name)
        assert call("init", folder, "--data", str(tmp_path / path))[0] == 0
        job = load_job(Path(folder) / "job.yaml").job
        assert sum(read_rows(job, tmp_path / "home").labelled.values()) == 20


def test_concerns_are_told_with_the_tokens_of_a_model_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """English tokens read Chinese reviews as unknown ones; without the model only rows are looked at."""
    data = tmp_path / "a.csv"
    rows = "".join(f"这部电影 {i} 非常好看,{i % 2}\n" for i in range(30))
    data.write_text(f"text,label\n{rows}一样,0\n一样,1\n")
    code, out, _ = call("--json", "init", str(tmp_path / "one"), "--data", str(data))
    found = " ".join(json.loads(out)["data"]["concerns"])
    assert "1 text stands in several rows with different labels" in found
    assert "tokens" not in found
    monkeypatch.setenv("TUTELAGE_HOME", str(tmp_path))
    tiny_classifier(tmp_path / "models" / "minilm")
    code, out, err = call("init", str(tmp_path / "two"), "--data", str(data))
    assert code == 0, err
    assert "tokens are unknown to the student's tokenizer" in out


@pytest.mark.parametrize("rows", [4, 60])
def test_the_plan_of_a_new_job_holds_on_its_file(tmp_path: Path, rows: int) -> None:
    data = tmp_path / "a.csv"
    data.write_text(
        "text;label\r\n" + "".join(f"row {i};{'yes' if i % 2 else 'No'}\r\n" for i in range(rows))
    )
    assert call("init", str(tmp_path / "job"), "--data", str(data))[0] == 0
    model = tiny_classifier(tmp_path / "model", labels=("No", "yes"))
    small = [f"teachers.{name}.model={model}" for name in ("whole", "upper")]
    small += [
        f"student.model={model}",
        "student.layers=[0]",
        "data.max_tokens=32",
        "teachers.upper.finetune.method.freeze_layers=1",
    ]
    code, out, err = call("--json", "distill", str(tmp_path / "job" / "job.yaml"), "--plan", *small)
    assert code == 0, err
    answer = json.loads(out)
    assert answer["plan"][0]["rows"] > 0
    (source,) = answer["data"]["sources"]
    assert source["labelled"] == rows
    assert sum(source[split] for split in ("train", "validation", "test")) == rows
    assert [one["class"] for one in answer["data"]["classes"]] == ["No", "yes"]
