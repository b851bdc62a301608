"""Files as people have them: what is read, what is named as what it is, and by which key it is read."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.data_samples import job
from tutelage.data.encodings import other_encoding
from tutelage.data.quoted import BACKSLASH, SPANS, STRAY
from tutelage.data.row_set import RowSet, told
from tutelage.data.rows import read_rows
from tutelage.data.table import MappedTable
from tutelage.errors import DataError

pytestmark = pytest.mark.unit

SPLITS = {"test": 0, "validation": 0}
SAMPLES = {
    "cp1252": "Das Café war überfüllt – “nie wieder”",
    "gb18030": "这部电影非常好看，服务太差了",
    "big5": "這部電影非常好看，服務太差了",
    "cp932": "この映画はとても良かったです",
    "cp949": "영화가 정말 재미있었다",
    "cp1251": "Отличный фильм, советую всем",
    "koi8-r": "Отличный фильм, советую всем",
    "utf-16": "größer",
    "utf-16-le": "plain words 电影",
    "utf-16-be": "plain words",
    "utf-32": "größer",
}


def read(
    folder: Path, content: str | bytes, name: str = "a.csv", skip: bool = False, **source: Any
) -> RowSet:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    section = {"path": str(path), "splits": SPLITS, **source}
    return read_rows(job({"s": section}, on_bad_row="skip" if skip else "fail"), folder / "home")


def pairs(rows: RowSet) -> list[tuple[str, int]]:
    """Text and label in the order of the file."""
    found = MappedTable(rows.path).take(np.arange(sum(rows.counts["s"].values())))
    by_row = sorted(found.select(["row", "text", "label"]).to_pylist(), key=lambda row: row["row"])
    return [(row["text"], row["label"]) for row in by_row]


def refused(folder: Path, content: str | bytes, name: str = "a.csv", **source: Any) -> DataError:
    with pytest.raises(DataError) as caught:
        read(folder, content, name, **source)
    return caught.value


# --- quotes -----------------------------------------------------------------------------------------


def table(rows: list[tuple[str, str]], mark: str) -> str:
    return "".join(f"{text}{mark}{label}\n" for text, label in [("text", "label"), *rows])


@pytest.mark.parametrize("mark", ["\t", ","])
def test_two_quotes_that_close_nothing_join_no_rows(tmp_path: Path, mark: str) -> None:
    rows = [(f"row {i}", ("negative", "positive")[i % 2]) for i in range(200)]
    rows[50] = ('"never closed', "negative")
    rows[58] = ('a "word', "positive")
    path = tmp_path / ("a.tsv" if mark == "\t" else "a.csv")
    found = read(tmp_path, table(rows, mark), path.name)
    assert pairs(found) == [(text, ("negative", "positive").index(label)) for text, label in rows]
    assert found.remarks == {"s": {STRAY: 1}}
    assert f"s: 1 x {STRAY} ({path.name} row 51)" in told(found)


QUOTED = st.text(st.sampled_from('ab "\t,\n'), max_size=8).map(lambda text: f"x{text}x")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(QUOTED, st.sampled_from(["negative", "positive"])), min_size=1, max_size=6))
def test_cells_that_are_quoted_by_the_rules_come_back_as_they_were(tmp_path_factory, rows) -> None:
    """Any text of quotes, tabs, commas and line breaks, as the csv module of Python writes it."""
    import csv
    import io

    folder = tmp_path_factory.mktemp("quoted")
    for name, mark in (("a.csv", ","), ("a.tsv", "\t")):
        sink = io.StringIO()
        csv.writer(sink, delimiter=mark, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(
            [("text", "label"), *rows]
        )
        found = read(folder, sink.getvalue(), name)
        assert sorted(pairs(found)) == sorted((t, ("negative", "positive").index(k)) for t, k in rows)


BARE = st.text(st.sampled_from('ab" '), max_size=6).map(lambda text: f"x{text}" if not text.strip() else text)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(BARE, st.sampled_from(["negative", "positive"])), min_size=1, max_size=12))
def test_no_row_is_lost_whatever_quotes_stand_in_a_tsv_without_quoting(tmp_path_factory, rows) -> None:
    folder = tmp_path_factory.mktemp("bare")
    rows = [("first", "negative"), *rows]
    found = read(folder, table(rows, "\t"), "a.tsv", skip=True)
    assert sum(found.counts["s"].values()) + sum(found.bad["s"].values()) == len(rows)
    plain = read(folder, table(rows, "\t"), "a.tsv", quote="none")
    assert [text for text, _ in pairs(plain)] == [text for text, _ in rows]


def test_line_breaks_in_quoted_cells_are_read_and_counted(tmp_path: Path) -> None:
    content = 'text,label\n"one,\ntwo, three\nend",positive\nfour,negative\n'
    found = read(tmp_path, content)
    assert pairs(found) == [("one,\ntwo, three\nend", 1), ("four", 0)]
    assert found.remarks == {"s": {SPANS: 1}}


@pytest.mark.parametrize("mark", ["\t", ","])
def test_quotes_behind_backslashes_are_read(tmp_path: Path, mark: str) -> None:
    rows = [
        (r'"he said \"yes\", and left"', "positive"),
        (r'"ends with \""', "negative"),
        ("plain", "positive"),
    ]
    found = read(tmp_path, table(rows, mark), "a.tsv" if mark == "\t" else "a.csv")
    assert pairs(found) == [('he said "yes", and left', 1), ('ends with "', 0), ("plain", 1)]
    assert found.remarks == {"s": {BACKSLASH: 2}}


def test_a_quote_that_is_named_is_obeyed(tmp_path: Path) -> None:
    found = read(tmp_path, "text,label\n'a, b',positive\n\"c,negative\n", quote="'")
    assert pairs(found) == [("a, b", 1), ('"c', 0)]


def test_a_cell_may_be_longer_than_any_limit_of_the_csv_module(tmp_path: Path) -> None:
    long = "word " * 60_000
    assert pairs(read(tmp_path, f'text,label\n"{long}",positive\nb,negative\n'))[0] == (long, 1)


# --- header, delimiter, line ends -------------------------------------------------------------------


@pytest.mark.parametrize(("mark", "name"), [(";", ";"), ("\t", '"\\t"'), ("|", "'|'")])
def test_another_delimiter_is_named_and_its_key_reads_the_file(tmp_path: Path, mark: str, name: str) -> None:
    content = table([("one, two", "positive")], mark)
    assert f"set data.sources.s.delimiter: {name}" in refused(tmp_path, content).fix
    assert pairs(read(tmp_path, content, delimiter=mark)) == [("one, two", 1)]


def test_a_line_that_names_the_delimiter_is_obeyed(tmp_path: Path) -> None:
    assert pairs(read(tmp_path, "sep=;\ntext;label\na;positive\n")) == [("a", 1)]
    assert pairs(read(tmp_path, "\ufeffsep=,\r\ntext,label\r\nb,negative\r\n")) == [("b", 0)]


def test_a_file_without_header_is_read_with_the_keys_that_its_error_names(tmp_path: Path) -> None:
    content = "what a film,positive\nnever again,negative\n"
    assert "set data.sources.s.header: [text, label]" in refused(tmp_path, content).fix
    expected = [("what a film", 1), ("never again", 0)]
    assert pairs(read(tmp_path, content, header=["text", "label"])) == expected
    columns = {"text": "c1", "label": "c2"}
    assert pairs(read(tmp_path, content, header=False, columns=columns)) == expected
    assert "names 3 columns, the first line has 2" in str(refused(tmp_path, content, header=["a", "b", "c"]))


def test_a_column_that_stands_twice_is_never_guessed(tmp_path: Path) -> None:
    content = "text,label,text\na,positive,b\n"
    assert "its columns are text#1, label, text#2" in str(refused(tmp_path, content))
    assert pairs(read(tmp_path, content, columns={"text": "text#2"})) == [("b", 1)]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl"])
def test_every_line_end_ends_a_line(tmp_path: Path, name: str, end: str) -> None:
    lines = {
        "a.csv": ["text,label", "a b,positive", '"c ""d""",negative'],
        "a.tsv": ["text\tlabel", "a b\tpositive", '"c ""d"""\tnegative'],
        "a.jsonl": ['{"text": "a b", "label": "positive"}', '{"text": "c \\"d\\"", "label": "negative"}'],
    }[name]
    assert pairs(read(tmp_path, end.join([*lines, ""]), name)) == [("a b", 1), ('c "d"', 0)]


def test_files_that_were_put_together_keep_neither_mark_nor_header(tmp_path: Path) -> None:
    part = "\ufefftext,label\na%d,positive\n"
    found = read(tmp_path, part % 1 + part % 2)
    assert pairs(found) == [("a1", 1), ("a2", 1)]
    assert sum(found.remarks["s"].values()) >= 1
    found = read(tmp_path, '\ufeff{"text": "a"}\n\ufeff{"text": "b"}\n', "a.jsonl", columns={"label": None})
    assert [text for text, _ in pairs(found)] == ["a", "b"]


def test_a_mark_before_a_quoted_header_is_no_part_of_it(tmp_path: Path) -> None:
    assert pairs(read(tmp_path, '\ufeff"text","label"\n"a","positive"\n')) == [("a", 1)]


# --- encodings --------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", SAMPLES)
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.txt"])
def test_another_encoding_is_named_and_its_key_reads_the_file(
    tmp_path: Path, encoding: str, name: str
) -> None:
    text = SAMPLES[encoding]
    lines = {
        "a.csv": ["text", *[f'"{text} {i}"' for i in range(5)]],
        "a.jsonl": [f'{{"text": "{text} {i}"}}' for i in range(5)],
        "a.txt": [f"{text} {i}" for i in range(5)],
    }[name]
    content = "\n".join([*lines, ""]).encode(encoding)
    columns = {"label": None}
    error = refused(tmp_path, content, name, columns=columns)
    assert f"set data.sources.s.encoding: {encoding}" in error.fix
    found = pairs(read(tmp_path, content, name, columns=columns, encoding=encoding))
    assert [text for text, _ in found] == [f"{text} {i}" for i in range(5)]


def test_a_few_damaged_rows_of_a_utf8_file_are_bad_rows(tmp_path: Path) -> None:
    content = "text,label\n" + "größer,positive\n" * 5
    error = refused(tmp_path, content.encode() + b"\xe9t\xe9,positive\n")
    assert "invalid UTF-8 in row 6" in str(error)
    assert "encoding" not in str(error)


@given(st.binary(max_size=60))
def test_a_guess_never_names_an_encoding_that_cannot_read_the_bytes(content: bytes) -> None:
    found = other_encoding(content)
    if found:
        (content[: content.rfind(b"\n") + 1] or content).decode(found)


def test_a_name_that_is_no_encoding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'latin-9000' is no encoding"):
        read(tmp_path, "text,label\n", encoding="latin-9000")
    with pytest.raises(ValueError, match="'base64' is no encoding"):
        read(tmp_path, "text,label\n", encoding="base64")


# --- other things with a wrong name -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\x1f\x8b\x08\0", "a gzip file"),
        (b"PK\x03\x04xl", "a ZIP file or a spreadsheet"),
        (b"PAR1\0\0", "a parquet file"),
        (b'[{"text": "a"},\n', "a JSON array"),
    ],
)
def test_a_file_of_another_kind_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    assert says in str(refused(tmp_path, content, "a.jsonl"))


def test_keys_of_csv_are_refused_for_files_that_have_none(tmp_path: Path) -> None:
    error = refused(tmp_path, '{"text": "a"}\n', "a.jsonl", delimiter=";")
    assert "data.sources.s.delimiter: jsonl files have none" in str(error)


# --- a text a line; one label for all ---------------------------------------------------------------


def test_a_text_file_is_a_text_a_line_and_may_have_one_label(tmp_path: Path) -> None:
    content = 'one "two\n\n  three, four\n'
    assert "data.sources.s.label: NAME" in refused(tmp_path, content, "a.txt").fix
    assert pairs(read(tmp_path, content, "a.txt", label="positive")) == [
        ('one "two', 1),
        ("  three, four", 1),
    ]
    assert [k for _, k in pairs(read(tmp_path, content, "a.txt", columns={"label": None}))] == [-1, -1]


def test_one_label_takes_the_place_of_a_column(tmp_path: Path) -> None:
    assert pairs(read(tmp_path, "text\na\n", label="negative")) == [("a", 0)]
    assert "'other' is not one of task.labels" in str(refused(tmp_path, "text\na\n", label="other"))
    with pytest.raises(ValueError, match="exclude each other"):
        read(tmp_path, "text\na\n", label="negative", columns={"label": "mood"})


def test_notes_in_a_folder_of_rows_are_no_rows(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "rows.csv").write_text("text,label\na,positive\n")
    (folder / "README.txt").write_text("What this is.\n")
    source = {"path": str(folder), "splits": SPLITS}
    assert pairs(read_rows(job({"s": source}), tmp_path / "home")) == [("a", 1)]
    (folder / "rows.csv").unlink()
    rows = read_rows(job({"s": {**source, "label": "positive"}}), tmp_path / "home")
    assert pairs(rows) == [("What this is.", 1)]


def test_the_marks_of_encodings_are_all_told_apart() -> None:
    from tutelage.data.encodings import marked

    assert marked(codecs.BOM_UTF32_LE + "ab".encode("utf-32-le")) == "utf-32"
    assert marked(codecs.BOM_UTF16_LE + "ab".encode("utf-16-le")) == "utf-16"
    assert marked("这部电影,好\n服务太差,坏\n".encode("utf-16-le")) == "utf-16-le"
    assert marked("这部电影,好\n服务太差,坏\n".encode("utf-16-be")) == "utf-16-be"
    assert marked(b"plain") is None
    assert marked(b"a text with a \0 in it, as some exports write") is None


def test_labels_that_are_still_to_come_are_looked_at_before_they_are_task_labels(tmp_path: Path) -> None:
    """An update asks what classes new data brings: from a mapping, a column, and a source's one label."""
    from actors.update.labels import all_labels

    (tmp_path / "a.csv").write_text("text,label\na,1\nb,2\nc,positive\n")
    columns = {"path": str(tmp_path / "a.csv"), "labels": {"1": "mixed"}}
    config = job({"a": columns, "b": {"path": str(tmp_path / "a.csv"), "label": "other"}})
    known = ["negative", "positive"]
    assert all_labels(config, config.data.sources, known, tmp_path) == [*known, "2", "mixed", "other"]


OTHERS = {"json": "format: jsonl", "xlsx": "save the sheet as CSV", "zip": "unpack it", "log": ".csv"}


@pytest.mark.parametrize("ending", OTHERS)
def test_a_file_of_an_ending_that_is_not_ours_gets_advice_of_its_own(tmp_path: Path, ending: str) -> None:
    name, says = f"a.{ending}", OTHERS[ending]
    assert says in refused(tmp_path, '{"text": "a"}\n', name).fix
    if name == "a.json":
        found = read(tmp_path, '{"text": "a"}\n', name, columns={"label": None}, format="jsonl")
        assert pairs(found) == [("a", -1)]


def test_labels_of_another_spelling_get_the_mapping_that_reads_them(tmp_path: Path) -> None:
    content = "text,label\na,Positive\nb, negative\nc,positive\n"
    fix = refused(tmp_path, content).fix
    assert "set data.sources.s.labels: {' negative': negative, Positive: positive}; otherwise" in fix
    mapped = {"Positive": "positive", " negative": "negative"}
    assert [label for _, label in pairs(read(tmp_path, content, labels=mapped))] == [1, 0, 1]
    assert "set data.sources.s.labels: {" not in refused(tmp_path, content + "d,other\n").fix
