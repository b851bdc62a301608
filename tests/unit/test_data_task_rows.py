"""Rows of words, answers and completions: what is read, what is refused, from every format."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pytest

from tests.unit.data_samples import jsonl, parquet
from tests.unit.task_samples import TASKS, task_job
from tutelage.data.rows import read_rows
from tutelage.errors import DataError

pytestmark = pytest.mark.unit

TAGGED, QA, LM = TASKS["token-classification"], TASKS["question-answering"], TASKS["causal-lm"]
PROMPTED = {"columns": {"prompt": "prompt", "completion": "completion"}}


def read(tmp_path: Path, task: dict[str, Any], path: str, **source: Any) -> list[dict[str, Any]]:
    """All rows, in the order of the file."""
    job = task_job(task, {"s": {"path": path, "split": "train", **source}})
    rows = read_rows(job, tmp_path / "home")
    with pa.memory_map(str(rows.path)) as file:
        return sorted(pa.ipc.open_file(file).read_all().to_pylist(), key=lambda row: row["row"])


def refused(tmp_path: Path, task: dict[str, Any], rows: list[Any], **source: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(tmp_path, task, jsonl(tmp_path / "bad.jsonl", rows), **source)
    return str(caught.value)


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    """The rows in the format of the ending; lists become words between spaces in CSV."""
    if path.suffix == ".jsonl":
        return jsonl(path, rows)
    columns = {name: [row.get(name) for row in rows] for name in rows[0]}
    if path.suffix == ".parquet":
        return parquet(path, **columns)
    if path.suffix == ".arrow":
        table = pa.table(columns)
        with pa.ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table)
        return str(path)
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        for row in rows:
            table.writerow({k: " ".join(v) if isinstance(v, list) else v for k, v in row.items()})
    return str(path)


FORMATS = pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "a.arrow", "a.csv"])


@FORMATS
def test_words_and_tags_are_read_from_every_format(tmp_path: Path, name: str) -> None:
    rows = [
        {"tokens": ["Ada", "Löwe", "naps"], "tags": ["B-PER", "I-PER", "O"]},
        {"tokens": ["e\u0301te\u0301"], "tags": ["O"]},
    ]
    one, two = read(tmp_path, TAGGED, write(tmp_path / name, rows))
    assert (one["text"], one["label"]) == ("Ada Löwe naps", 0)
    assert one["spans"] == [0, 3, 4, 8, 9, 13]
    assert one["span_labels"] == [1, 2, 0]
    assert (two["text"], two["spans"], two["span_labels"]) == ("e\u0301te\u0301", [0, 5], [0])


def test_a_word_with_a_space_inside_stays_one_word(tmp_path: Path) -> None:
    [row] = read(
        tmp_path, TAGGED, jsonl(tmp_path / "a.jsonl", [{"tokens": ["New York", "x"], "tags": [3, 0]}])
    )
    assert (row["spans"], row["span_labels"]) == ([0, 8, 9, 10], [3, 0])


def test_tags_may_be_numbers_other_names_or_missing(tmp_path: Path) -> None:
    rows = [
        {"tokens": ["a", "b"], "tags": ["person", None]},
        {"tokens": ["c"], "tags": [None]},
        {"tokens": ["d"], "tags": None},
    ]
    found = read(tmp_path, TAGGED, jsonl(tmp_path / "a.jsonl", rows), labels={"person": "B-PER"})
    assert [row["span_labels"] for row in found] == [[1, -1], [-1], [-1]]
    assert [row["label"] for row in found] == [0, -1, -1]


def test_a_source_without_tags_is_read_for_its_words(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"tokens": ["a", "b"]}])
    [row] = read(tmp_path, TAGGED, path, columns={"tags": None})
    assert (row["label"], row["span_labels"]) == (-1, [-1, -1])


def test_bad_words_are_named_with_reason_and_row(tmp_path: Path) -> None:
    message = refused(
        tmp_path,
        TAGGED,
        [
            {"tokens": ["a"], "tags": ["O"]},
            {"tokens": ["a", "b"], "tags": ["O"]},
            {"tokens": ["a", ""], "tags": ["O", "O"]},
            {"tokens": ["\u200b"], "tags": ["O"]},
            {"tokens": [], "tags": []},
            {"tokens": ["a", 3], "tags": ["O", "O"]},
            {"tokens": None, "tags": []},
            {"tokens": ["a"], "tags": ["B-PERS"]},
            {"tokens": ["a"], "tags": 3},
            {"tokens": ["\ud800"], "tags": ["O"]},
        ],
    )
    for reason in (
        "words and tags differ in number in row 2",
        "empty word in rows 3, 4",
        "no words in row 5",
        "word of a wrong type in row 6",
        "null words in row 7",
        "unknown label in row 8",
        "tags of a wrong type in row 9",
        "invalid UTF-8 in row 10",
        "labels found: 'B-PERS'; allowed: O, B-PER",
    ):
        assert reason in message


def test_invalid_utf8_inside_a_list_is_one_bad_row(tmp_path: Path) -> None:
    good, bad = pa.array([b"a", b"\xff\xfe"]), pa.array([0, 1, 2], pa.int32())
    words = pa.ListArray.from_arrays(bad, good).view(pa.list_(pa.string()))
    path = parquet(tmp_path / "a.parquet", tokens=words, tags=[["O"], ["O"]])
    with pytest.raises(DataError, match=r"1 bad row \(1 invalid UTF-8\)") as caught:
        read(tmp_path, TAGGED, path)
    assert "invalid UTF-8 in row 2" in str(caught.value)


SQUAD = {"text": ["Ada", "Ada L."], "answer_start": [4, 4]}


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "a.arrow"])
@pytest.mark.parametrize(
    "answers",
    [SQUAD, [{"text": "Ada", "answer_start": 4}, {"text": "Ada L.", "answer_start": 4}]],
    ids=["columns", "list"],
)
def test_answers_are_read_as_squad_writes_them(tmp_path: Path, name: str, answers: Any) -> None:
    row = {"question": "Who?", "context": "日本, Ada L. (x)", "answers": answers}
    [found] = read(tmp_path, QA, write(tmp_path / name, [row]))
    words = [found["text"][a:b] for a, b in zip(found["spans"][::2], found["spans"][1::2], strict=True)]
    assert words == ["日", "本", ",", "Ada", "L", ".", "(", "x", ")"]
    assert (found["pair"], found["span_labels"]) == ("Who?", [3, 3])
    assert found["answers"] == ["Ada", "Ada L."]


@FORMATS
def test_an_answer_may_have_columns_of_its_own(tmp_path: Path, name: str) -> None:
    rows = [{"question": "Who?", "context": "so Ada L. said", "said": " Ada L.", "at": 2}]
    columns = {"answer_text": "said", "answer_start": "at"}
    [found] = read(tmp_path, QA, write(tmp_path / name, rows), columns=columns)
    assert (found["span_labels"], found["label"]) == ([1, 3], 0)


def test_bad_answers_are_named_with_reason_and_row(tmp_path: Path) -> None:
    def row(answers: Any, question: Any = "Who?", context: Any = "so Ada") -> dict[str, Any]:
        return {"question": question, "context": context, "answers": answers}

    good = {"text": ["Ada"], "answer_start": [3]}
    message = refused(
        tmp_path,
        QA,
        [
            row(good),
            row({"text": ["Ada"], "answer_start": [2]}),
            row({"text": ["Ada"], "answer_start": [-3]}),
            row({"text": [], "answer_start": []}),
            row({"text": ["Ada"], "answer_start": []}),
            row("Ada"),
            row({"text": ["Ada"], "answer_start": ["here"]}),
            row({"text": [" "], "answer_start": [2]}),
            row(good, question=" "),
            row(good, context=None),
        ],
    )
    for reason in (
        "answer does not stand at answer_start in rows 2, 3",
        "no answer (task.unanswerable is false) in row 4",
        "answers of a wrong form in rows 5, 6, 7",
        "empty answer in row 8",
        "empty question in row 9",
        "null context in row 10",
    ):
        assert reason in message


def test_no_answer_is_an_answer_where_the_task_says_so(tmp_path: Path) -> None:
    none: dict[str, list[Any]] = {"text": [], "answer_start": []}
    rows = [
        {"question": "Who?", "context": "so Ada", "answers": none},
        {"question": "Who?", "context": "so Ada", "answers": None},
    ]
    path = write(tmp_path / "a.jsonl", rows)
    found = read(tmp_path, QA | {"unanswerable": True}, path)
    assert [(row["label"], row["answers"]) for row in found] == [(0, []), (-1, [])]


def test_questions_about_one_context_stand_in_one_split(tmp_path: Path) -> None:
    """Otherwise a student is tested on contexts that it learned."""
    rows = [
        {"question": f"q{n}", "context": f"c{n // 5} Ada", "answers": {"text": ["Ada"], "answer_start": [3]}}
        for n in range(50)
    ]
    path = write(tmp_path / "a.jsonl", rows)
    found = read(tmp_path, QA, path, split=None, splits={"validation": 10, "test": 10})
    homes = {row["text"]: {r["split"] for r in found if r["text"] == row["text"]} for row in found}
    assert all(len(splits) == 1 for splits in homes.values())
    assert {split for splits in homes.values() for split in splits} == {"train", "validation", "test"}


@FORMATS
def test_texts_and_completions_are_read_from_every_format(tmp_path: Path, name: str) -> None:
    rows = [
        {"text": "a b", "prompt": "a", "completion": " b"},
        {"text": "c", "prompt": "", "completion": "c"},
    ]
    path = write(tmp_path / name, rows)
    assert [(row["text"], row["prompt_end"]) for row in read(tmp_path, LM, path)] == [("a b", 0), ("c", 0)]
    found = read(tmp_path, LM, path, **PROMPTED)
    assert [(row["text"], row["prompt_end"]) for row in found] == [("a b", 1), ("c", 0)]
    assert [row["label"] for row in found] == [0, 0]


def test_completions_of_one_prompt_stand_in_one_split(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{n // 4}", "completion": f" c{n}"} for n in range(40)]
    path = write(tmp_path / "a.jsonl", rows)
    found = read(tmp_path, LM, path, **PROMPTED, split=None, splits={"validation": 8, "test": 8})
    homes: dict[str, set[str]] = {}
    for row in found:
        homes.setdefault(row["text"].split()[0], set()).add(row["split"])
    assert all(len(splits) == 1 for splits in homes.values())


def test_a_completion_without_text_is_refused(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "completion": " "}, {"prompt": None, "completion": "b"}]
    message = refused(tmp_path, LM, rows, **PROMPTED)
    assert "empty completion in row 1" in message
    assert "null prompt in row 2" in message


@pytest.mark.parametrize(
    ("task", "rows", "near"),
    [
        (TAGGED, [{"token": ["a"], "tags": ["O"]}], "columns.tokens: token"),
        (
            TAGGED,
            [{"tokens": ["a"], "tag": ["O"]}],
            "columns.tags: tag, or null when the source has no labels",
        ),
        (QA, [{"question": "a", "contexts": "b", "answers": None}], "columns.context: contexts"),
        (LM, [{"texts": "a"}], "columns.text: texts"),
    ],
)
def test_a_missing_column_is_named_with_the_nearest_one(
    tmp_path: Path, task: dict[str, Any], rows: list[Any], near: str
) -> None:
    assert near in refused(tmp_path, task, rows)


def test_a_source_without_any_tag_is_refused(tmp_path: Path) -> None:
    message = refused(tmp_path, TAGGED, [{"tokens": ["a"], "tags": None}])
    assert "none of 1 rows has a value in the label column 'tags'" in message
    assert "columns.tags: null" in message


def test_the_hub_names_tags_by_its_own_class_names(tmp_path: Path) -> None:
    from tutelage.config.data import HubSource
    from tutelage.data.hub import hub_rows
    from tutelage.data.raw import Wanted

    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "tokens": datasets.List(datasets.Value("string")),
            "tags": datasets.List(datasets.ClassLabel(names=["O", "B-PER"])),
        }
    )
    data = datasets.Dataset.from_dict({"tokens": [["a", "b"]], "tags": [[1, 0]]}, features)
    source = HubSource(type="hub", dataset="x")
    [batch] = hub_rows(data, source, Wanted("s", "x", {"tokens": "tokens", "tags": "tags"}), ["B-PER", "O"])
    assert batch.values == {"tokens": [["a", "b"]], "tags": [["B-PER", "O"]]}


# --- the job file ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "columns", "problem"),
    [
        (
            TAGGED,
            {"text": "body"},
            "columns.text: token-classification does not read it; its columns are tokens, tags",
        ),
        (QA, {"label": None}, "columns.label: question-answering does not read it"),
        ({"labels": ["a", "b"]}, {"tokens": "t"}, "its columns are text, label"),
        (LM, {"prompt": "p"}, "prompt and completion go together"),
        (QA, {"answer_start": "s"}, "answer_text and answer_start go together"),
        (
            LM | {"completion_only": True},
            {},
            "task.completion_only needs columns.prompt and columns.completion",
        ),
    ],
)
def test_columns_of_another_task_are_refused(
    task: dict[str, Any], columns: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem.replace(".", r"\.")):
        task_job(task, {"s": {"path": "x", "columns": columns}})


def test_a_label_map_without_labels_is_refused() -> None:
    with pytest.raises(ValueError, match="question-answering has no labels to map to"):
        task_job(QA, {"s": {"path": "x", "labels": {"1": "a"}}})


def test_a_dumped_job_loads_again_for_every_task(tmp_path: Path) -> None:
    from tutelage.config.load import dump_yaml, load_job

    for task in TASKS.values():
        job = task_job(task, {"s": {"path": "x"}})
        (tmp_path / "job.yaml").write_text(dump_yaml(job))
        assert load_job(tmp_path / "job.yaml", environ={}).job == job
