"""Which column of a data file holds the text and which the label, and how a job reads that file."""

from __future__ import annotations

import os
import re
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from tutelage.cli.found import Found
from tutelage.config import JobConfig
from tutelage.config.data import FileSource
from tutelage.config.task import SequenceClassification
from tutelage.data.checks import BadRowError, as_label, check_text
from tutelage.data.concerns import concerns
from tutelage.data.labels import UnknownLabelError, fold_label, label_text
from tutelage.data.peek import Peek, peek
from tutelage.data.rows import read_rows
from tutelage.data.sources import open_source
from tutelage.data.token_facts import token_facts
from tutelage.data.tokens import tokenise
from tutelage.errors import DataError

TEXT_NAMES = ("text", "sentence", "review", "content", "body", "comment", "message", "document", "title")
LABEL_NAMES = (
    *("label", "labels", "target", "class", "category", "sentiment", "intent", "y", "rating", "stars"),
)
MAX_LABELS = 200
MODEL = "minilm"
"""What the template takes from the catalog."""
TOKEN_ROWS = 2000
"""The first rows, whose tokens are looked at."""
FEW_ROWS = 10
"""Below, a tenth of the rows may be none."""
MAX_DISTINCT = 10_000
"""Different values of a column, beyond which it is not counted on: it holds no labels."""


def find_columns(path: str, name: str, *, text: str | None = None, label: str | None = None) -> Found:
    """The text and label columns of a file, and all that a job must say to read it.

    Args:
        path: what a source's `path` may be.
        name: the source's name.
        text: the text column, where it is known.
        label: the label column, where it is known.

    Raises:
        DataError: the file cannot be read, or a column cannot be told.
    """
    seen = peek(name, path)
    if not seen.rows:
        raise DataError(f"{path} holds no rows", fix="give --data a file with a header and some rows")
    text, label = _columns(path, seen, text, label)
    values = _values(path, name, seen, text, label)
    spellings = _spellings(values)
    counts: Counter[str] = Counter()
    for value, times in values.items():
        counts[spellings.get(value, value)] += times
    if not 2 <= len(counts) <= MAX_LABELS:
        raise DataError(
            f"{path}: column '{label}' holds {len(counts)} different labels; a task has 2 to {MAX_LABELS}",
            fix="say which column is the label: --label COLUMN",
        )
    sample = next((row[text] for row in seen.rows if _is_text(row[text])), "")
    ordered = dict(sorted(counts.items()))
    found = Found(text, label, seen.keys, ordered, spellings, " ".join(sample.split())[:70])
    found = _as_the_job_reads(path, name, found)
    if found.rows and sum(found.rows.counts[name].values()) < FEW_ROWS:
        found = _as_the_job_reads(path, name, replace(found, splits={"validation": 1, "test": 1}))
    return found


def _is_text(value: Any) -> bool:
    try:
        check_text(value)
    except BadRowError:
        return False
    return True


def _columns(path: str, seen: Peek, text: str | None, label: str | None) -> tuple[str, str]:
    columns = seen.columns
    for option, name in (("--text", text), ("--label", label)):
        if name is not None and name not in columns:
            raise DataError(
                f"{option} {name}: {path} has no such column, only {', '.join(columns)}",
                fix="name one of them",
            )
    text = text or _text_column(seen.rows, [name for name in columns if name != label])
    label = label or _label_column(seen.rows, [name for name in columns if name != text])
    if text is None or label is None:
        missing = "text" if text is None else "label"
        raise DataError(
            f"{path}: cannot tell which of {', '.join(columns)} is the {missing} column",
            fix=f"say it: --{missing} COLUMN",
        )
    return text, label


def _text_column(rows: list[dict[str, Any]], columns: list[str]) -> str | None:
    """The column that is called like a text, else the one with the longest words."""
    named = _by_name(columns, TEXT_NAMES)
    if named:
        return named
    lengths = {
        name: sum(len(row[name]) for row in rows if isinstance(row.get(name), str)) / len(rows)
        for name in columns
    }
    longest = max(lengths, key=lambda name: lengths[name], default=None)
    return longest if longest and lengths[longest] >= 10 else None


def _label_column(rows: list[dict[str, Any]], columns: list[str]) -> str | None:
    """The column that is called like a label, else the only one with few values that come again."""
    named = _by_name(columns, LABEL_NAMES)
    if named:
        return named
    few = [
        name for name in columns if 2 <= len({str(row.get(name)) for row in rows}) <= min(20, len(rows) // 2)
    ]
    return few[0] if len(few) == 1 else None


def _by_name(columns: list[str], names: tuple[str, ...]) -> str | None:
    """The column of such a name; none where two have it."""
    for name in names:
        called = [column for column in columns if re.sub(r"#\d+$", "", column.strip().lower()) == name]
        if called:
            exact = [column for column in called if column.strip().lower() == name]
            return called[0] if len(called) == 1 else exact[0] if len(exact) == 1 else None
    return None


def _values(path: str, name: str, seen: Peek, text: str, label: str) -> Counter[str]:
    """What stands in the label column of rows with a text, as labels are compared -> rows."""
    source = FileSource.model_validate({"path": path, "columns": {"text": text, "label": label}, **seen.keys})
    known = {str(row[label]) for row in seen.rows if row[label] not in (None, "")}
    task = SequenceClassification.model_construct(labels=sorted(known))
    values: Counter[str] = Counter()
    for batch in open_source(name, source, Path(), task).read():
        for words, value in zip(batch.values["text"], batch.values["label"], strict=True):
            try:
                check_text(words)
                found = label_text(as_label(value))
            except (BadRowError, UnknownLabelError):
                continue
            if found is not None and (found in values or len(values) < MAX_DISTINCT):
                values[found] += 1
    return values


def _spellings(values: Counter[str]) -> dict[str, str]:
    """Value -> label for all that differ from it in case or white space only; most rows decide which."""
    groups: dict[str, list[str]] = {}
    for value in values:
        groups.setdefault(fold_label(value), []).append(value)
    found: dict[str, str] = {}
    for group in groups.values():
        usual = min(group, key=lambda value: (-values[value], value))
        found |= {value: usual for value in group if value != usual}
    return found


def _job(path: str, name: str, found: Found, limit: int | None = None) -> JobConfig:
    """The data part of the job that is to be written; bad rows are left out and counted."""
    source: dict[str, Any] = {
        "path": path,
        "columns": {"text": found.text, "label": found.label},
        "labels": found.spellings,
        "splits": found.splits,
        "limit": limit,
        **found.keys,
    }
    return JobConfig.model_validate(
        {
            "name": name,
            "task": {"labels": found.labels},
            "data": {"sources": {name: source}, "on_bad_row": "skip"},
            "student": {"model": name},
            "objectives": [{"type": "cross-entropy"}],
        }
    )


def _as_the_job_reads(path: str, name: str, found: Found) -> Found:
    """With the rows of the job that is to be written, and what is a concern in them.

    Tokens are looked at where the model of that job was fetched already.
    """
    job = _job(path, name, found)
    with tempfile.TemporaryDirectory() as folder:
        rows = read_rows(job, Path(folder))
        worries = concerns(job, rows)
        model = Path(os.environ.get("TUTELAGE_HOME") or ".tutelage") / "models" / MODEL
        if (model / "tokenizer.json").is_file():
            first = _job(path, name, found, limit=TOKEN_ROWS)
            read = read_rows(first, Path(folder))
            tokens = tokenise(read, str(model), first.data.max_tokens, Path(folder))
            facts = token_facts(tokens, str(model), first.data.max_tokens)
            worries = concerns(job, rows, facts)
    return replace(found, rows=rows, concerns=worries)
