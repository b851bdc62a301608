"""Where text and labels come from, and how they are split."""

from __future__ import annotations

import codecs
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from tutelage.config.base import Positive, Section, Slug
from tutelage.config.task import TaskName

RowsOrShare = Annotated[int, Field(ge=0, strict=True)] | Annotated[float, Field(ge=0, lt=1)]
SplitName = Literal["train", "validation", "test"]


def _encoding(name: str) -> str:
    """Python's own name of an encoding of texts."""
    try:
        found = codecs.lookup(name)
        "".encode(name)
    except (LookupError, UnicodeError) as problem:
        raise ValueError(f"'{name}' is no encoding; use such as utf-8, utf-16, cp1252, gb18030") from problem
    return "utf-8" if found.name == "utf-8-sig" else found.name


def _sign(text: str) -> str:
    if len(text) != 1 or text in "\r\n\ufeff" or text.isalnum():
        raise ValueError(f"'{text}' is not one sign, such as a comma")
    return text


def _delimiter(text: str) -> str:
    return "\t" if text == "tab" else _sign(text)


def _quote(text: str) -> str:
    return text if text in ("auto", "none") else _sign(text)


Encoding = Annotated[str, AfterValidator(_encoding)]
Delimiter = Annotated[str, AfterValidator(_delimiter)]
Quote = Annotated[str, AfterValidator(_quote)]


class Columns(Section):
    """Which columns of a source hold what. A task reads its own; the others keep their defaults."""

    text: str = "text"
    """sequence-classification, causal-lm: the column that is read."""
    label: str | None = "label"
    """sequence-classification: the column of the labels; null when the source has none."""
    tokens: str = "tokens"
    """token-classification: the words, as a list, or as text with spaces between them."""
    tags: str | None = "tags"
    """token-classification: a tag for each word, by name or number; null when the source has none."""
    question: str = "question"
    """question-answering: the question."""
    context: str = "context"
    """question-answering: the text that holds the answer."""
    answers: str | None = "answers"
    """question-answering: `text` and `answer_start` of the answers, as SQuAD writes them; null when none."""
    answer_text: str | None = None
    """question-answering: the answer's text, in a column of its own; takes the place of `answers`."""
    answer_start: str | None = None
    """question-answering: where the answer begins in the context, in code points from 0."""
    prompt: str | None = None
    """causal-lm: text before the completion; `prompt` and `completion` take the place of `text`."""
    completion: str | None = None
    """causal-lm: text that follows the prompt, without anything between them."""

    @model_validator(mode="after")
    def _columns_in_pairs(self) -> Columns:
        for one, other in (("prompt", "completion"), ("answer_text", "answer_start")):
            if (getattr(self, one) is None) != (getattr(self, other) is None):
                raise ValueError(f"{one} and {other} go together; set both or neither")
        return self

    def read(self, task: TaskName) -> dict[str, str]:
        """Key -> column of all that a task reads of a source."""
        keys = list(TASK_COLUMNS[task])
        if task == "causal-lm":
            keys = ["text"] if self.prompt is None else ["prompt", "completion"]
        if task == "question-answering":
            answers = ["answers"] if self.answer_text is None else ["answer_text", "answer_start"]
            keys = ["question", "context", *answers]
        return {key: getattr(self, key) for key in keys if getattr(self, key) is not None}

    def gold(self, task: TaskName) -> str | None:
        """The key of the column whose values are the labels; None where the source has none."""
        keys = {"sequence-classification": "label", "token-classification": "tags", "causal-lm": "text"}
        key = keys.get(task, "answers" if self.answer_text is None else "answer_text")
        return key if getattr(self, key) is not None else None

    def foreign(self, task: TaskName) -> list[str]:
        """Keys that are set here and belong to other tasks."""
        fields = type(self).model_fields
        strange = [key for key in fields if key not in TASK_COLUMNS[task]]
        return [key for key in strange if getattr(self, key) != fields[key].default]


TASK_COLUMNS: dict[TaskName, tuple[str, ...]] = {
    "sequence-classification": ("text", "label"),
    "token-classification": ("tokens", "tags"),
    "question-answering": ("question", "context", "answers", "answer_text", "answer_start"),
    "causal-lm": ("text", "prompt", "completion"),
}
"""Keys of `columns` that each task knows."""


class Splits(Section):
    """How one source is divided: rows are ordered by a hash of their text, then cut.

    The hash makes a row keep its split when rows are added, and keeps equal texts in one split.
    """

    validation: RowsOrShare = 0.1
    """Rows (an integer) or a share (a fraction below 1) for early stopping and choices."""
    test: RowsOrShare = 0.1
    """Rows or share that only reports look at."""
    train: Positive | None = None
    """At most this many rows for training; all that is left when null."""


class _Source(Section):
    columns: Columns = Columns()
    label: str | None = None
    """sequence-classification: the task label of all rows of this source, which then has no label column."""
    labels: dict[str, str] = Field(default={})
    """Value in the label column, or a tag -> task label, where they differ (`{"1": positive}`)."""
    slice: Slug | None = None
    """The domain that reports show this source under; the source's own name when null."""
    split: SplitName | None = None
    """All rows belong to this split (the data came divided already)."""
    splits: Splits = Splits()
    """How to divide the rows when `split` is null."""
    limit: Positive | None = None
    """Read at most this many rows."""

    @model_validator(mode="before")
    @classmethod
    def _one_label_or_a_column(cls, data: object) -> object:
        if not isinstance(data, dict) or data.get("label") is None:
            return data
        columns = data.get("columns") or {}
        if not isinstance(columns, dict):
            return data
        if columns.get("label") is not None:
            raise ValueError("label and columns.label exclude each other; remove one")
        return {**data, "columns": {**columns, "label": None}}


class FileSource(_Source):
    """Files on disk or behind any fsspec URL (`s3://`, `gs://`, `https://`)."""

    type: Literal["files"] = "files"
    path: str
    """A file, a folder, a glob or an fsspec URL."""
    format: Literal["auto", "parquet", "arrow", "jsonl", "csv", "text"] = "auto"
    """`auto` goes by the file's ending. `text`: a text a line, in the column `text`."""
    encoding: Encoding = "utf-8"
    """jsonl, csv, text: how the file's characters are written: utf-8, utf-16, cp1252, gb18030, ..."""
    delimiter: Delimiter | None = None
    """csv: one sign, or `tab`; when null the comma, in .tsv the tab, or what a first line `sep=;` says."""
    quote: Quote = "auto"
    """csv: the sign around cells, or `none`. `auto` is ", but a sign of the text where it would join rows."""
    header: bool | list[str] = True
    """csv: false when the first line is a row, then columns are c1, c2, ...; or a list of their names."""


class HubSource(_Source):
    """A data set of a hub, by name (`pip install 'tutelage[hub]'`)."""

    type: Literal["hub"]
    dataset: str
    """Its name on the hub, `owner/name`."""
    config: str | None = None
    """Which of its configurations; the only one when null."""
    part: str = "train"
    """The hub's own split to read."""
    revision: str | None = None
    """Branch, tag or commit; the newest when null. Pin it where results must be repeatable."""


class CatalogSource(_Source):
    """A public data set that tutelage fetches and checks by sha256 (`tutelage fetch --list`)."""

    type: Literal["catalog"]
    dataset: str
    """`collection/part`, such as `reviews/movies`."""


Source = Annotated[FileSource | HubSource | CatalogSource, Field(discriminator="type")]


class Pick(Section):
    """What one training reads of one source's train split."""

    rows: Positive | None = None
    """The first so many rows of the split; all when null."""
    labels: int | None = Field(default=None, ge=0)
    """Use the labels of the first so many rows, the others are read as unlabelled; all when null."""


class DataConfig(Section):
    """Sources and what is done with rows that cannot be used."""

    sources: dict[Slug, Source] = Field(min_length=1)
    """Name -> source; teachers, the student and reports call a source by its name."""
    max_tokens: int = Field(default=128, ge=4, le=8192)
    """Longer texts are cut here."""
    on_bad_row: Literal["fail", "skip"] = "fail"
    """`skip` leaves bad rows out and counts them in the report."""

    @model_validator(mode="before")
    @classmethod
    def _files_is_the_default_type(cls, data: object) -> object:
        if isinstance(data, dict) and isinstance(data.get("sources"), dict):
            sources = {
                name: {"type": "files", **source} if isinstance(source, dict) else source
                for name, source in data["sources"].items()
            }
            return {**data, "sources": sources}
        return data
