"""What is a good row of each task: raw values in, checked values out, or the reason why not.

Legend: n spans of one row.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
from blake3 import blake3

from tutelage.config.task import QuestionAnswering, Task, TaskName
from tutelage.data.labels import UNLABELLED, LabelMap, UnknownLabelError
from tutelage.data.raw import NOT_UTF8
from tutelage.data.words import words_of

EMPTY_WORD = "empty word"
NO_WORDS = "no words"
TAG_COUNT = "words and tags differ in number"
NO_ANSWER = "no answer (task.unanswerable is false)"
ANSWER_FORM = "answers of a wrong form"
MISPLACED = "answer does not stand at answer_start"

_INTS: Any = pa.list_(pa.int32())
EXTRA_FIELDS: dict[TaskName, list[Any]] = {
    "sequence-classification": [],
    "token-classification": [("spans", _INTS), ("span_labels", _INTS)],
    "question-answering": [
        ("pair", pa.string()),
        ("spans", _INTS),
        ("span_labels", _INTS),
        ("answers", pa.list_(pa.string())),
    ],
    "causal-lm": [("prompt_end", pa.int32())],
}
"""Columns that a task's rows have beside text and label.

spans: flat begin and end of each word, in code points. span_labels: a tag for each word; or the first and
last word of the answer; -1 for none. prompt_end: code points of the prompt.
"""


class BadRowError(ValueError):
    """Why one row cannot be used; its text is the reason."""


@dataclass(frozen=True)
class Checked:
    """One good row."""

    text: str
    label: int
    """Class; for other tasks than sequence-classification 0 with labels and -1 without."""
    identity: str
    """The text that decides the split: rows that share it stand in one split."""
    extra: dict[str, Any] = field(default_factory=dict)


Check = Callable[[dict[str, Any]], Checked]


def check_for(task: Task, label_of: LabelMap, label: str | None = None) -> Check:
    """The check of a task's rows; it raises BadRowError or UnknownLabelError.

    Args:
        task: decides what a row is.
        label_of: value of a label column -> class.
        label: sequence-classification: what all rows have, where there is no label column.
    """
    if isinstance(task, QuestionAnswering):
        return lambda raw: _question(raw, task.unanswerable)
    return {
        "sequence-classification": lambda raw: _sequence(raw, label_of, label),
        "token-classification": lambda raw: _words(raw, label_of),
        "causal-lm": _language,
    }[task.type]


def text_digest(text: str) -> bytes:
    """blake3 of the UTF-8 text, 16 bytes."""
    return blake3(text.encode()).digest(length=16)


def check_text(raw: object, what: str = "text") -> str:
    """The text as it will be used. Raises BadRowError."""
    text = _string(raw, what)
    if not text.strip():
        raise BadRowError(f"empty {what}")
    return text


def _string(raw: object, what: str) -> str:
    if raw is None:
        raise BadRowError(f"null {what}")
    if isinstance(raw, bytes):
        return _decode(raw)
    if not isinstance(raw, str):
        raise BadRowError(f"{what} of a wrong type")
    if not raw.isascii():
        try:
            raw.encode()
        except UnicodeEncodeError as problem:  # a lone surrogate, which JSON can spell
            raise BadRowError(NOT_UTF8) from problem
    return raw


def _decode(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise BadRowError(NOT_UTF8) from problem


def as_label(raw: object) -> object:
    """A value that may be a label, bytes as text. Raises UnknownLabelError for lists, dates and the like."""
    if isinstance(raw, bytes):
        return _decode(raw)
    if raw is None or isinstance(raw, str | int | float | Decimal):
        return raw
    raise UnknownLabelError(repr(raw)[:80])


def _sequence(raw: dict[str, Any], label_of: LabelMap, label: str | None) -> Checked:
    text = check_text(raw["text"])
    return Checked(text, label_of(as_label(raw.get("label", label))), text)


def _words(raw: dict[str, Any], label_of: LabelMap) -> Checked:
    words = [_word(value) for value in _list(raw["tokens"], "words")]
    if not words:
        raise BadRowError(NO_WORDS)
    ends = np.cumsum([len(word) + 1 for word in words]) - 1
    spans = np.stack([ends - [len(word) for word in words], ends], axis=1)
    tags = [UNLABELLED] * len(words)
    if raw.get("tags") is not None:
        tags = [label_of(as_label(tag)) for tag in _list(raw["tags"], "tags")]
        if len(tags) != len(words):
            raise BadRowError(TAG_COUNT)
    text = " ".join(words)
    label = 0 if any(tag != UNLABELLED for tag in tags) else UNLABELLED
    return Checked(text, label, text, {"spans": spans.ravel().tolist(), "span_labels": tags})


def _list(raw: object, what: str) -> Sequence[object]:
    """A list as it is, a text split at white space."""
    if isinstance(raw, str | bytes):
        return _string(raw, what).split()
    if raw is None:
        raise BadRowError(f"null {what}")
    if not isinstance(raw, list | tuple):
        raise BadRowError(f"{what} of a wrong type")
    return raw


def _word(raw: object) -> str:
    """A word that can be seen: what is only spaces, controls or joiners gives no token anywhere."""
    word = _string(raw, "word")
    if all(unicodedata.category(sign)[0] in "ZC" for sign in word):
        raise BadRowError(EMPTY_WORD)
    return word


def _question(raw: dict[str, Any], unanswerable: bool) -> Checked:
    question, context = check_text(raw["question"], "question"), check_text(raw["context"], "context")
    words = words_of(context)
    answers = _answers(raw)
    places = [_place(context, text, start) for text, start in answers or []]
    if answers == [] and not unanswerable:
        raise BadRowError(NO_ANSWER)
    first = [UNLABELLED, UNLABELLED]
    if places:
        begin, end = places[0]
        inside = np.flatnonzero((words[:, 0] < end) & (words[:, 1] > begin))
        first = [int(inside[0]), int(inside[-1])]
    extra = {
        "pair": question,
        "spans": words.ravel().tolist(),
        "span_labels": first,
        "answers": [text for text, _ in answers or []],
    }
    return Checked(context, UNLABELLED if answers is None else 0, context, extra)


def _answers(raw: dict[str, Any]) -> list[tuple[str, int]] | None:
    """Text and start of each answer; [] for "there is none", None for unlabelled."""
    if "answer_text" in raw:
        text, start = raw["answer_text"], raw["answer_start"]
        if text is None:
            return None
        return [(_string(text, "answer"), _start(start))] if len(text) else []
    given = raw.get("answers")
    if given is None:
        return None
    if isinstance(given, dict):
        texts, starts = given.get("text"), given.get("answer_start")
        if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
            raise BadRowError(ANSWER_FORM)
    elif isinstance(given, list) and all(isinstance(one, dict) for one in given):
        texts, starts = [one.get("text") for one in given], [one.get("answer_start") for one in given]
    else:
        raise BadRowError(NOT_UTF8 if isinstance(given, bytes) else ANSWER_FORM)
    return [(_string(text, "answer"), _start(start)) for text, start in zip(texts, starts, strict=True)]


def _start(raw: object) -> int:
    if isinstance(raw, bytes | str):
        raw = int(raw) if raw.strip().isdigit() else None
    if not isinstance(raw, int) or isinstance(raw, bool):
        raise BadRowError(ANSWER_FORM)
    return raw


def _place(context: str, text: str, start: int) -> tuple[int, int]:
    if not text.strip():
        raise BadRowError("empty answer")
    if start < 0 or context[start : start + len(text)] != text:
        raise BadRowError(MISPLACED)
    begin = start + len(text) - len(text.lstrip())
    return begin, begin + len(text.strip())


def _language(raw: dict[str, Any]) -> Checked:
    if "text" in raw:
        text = check_text(raw["text"])
        return Checked(text, 0, text, {"prompt_end": 0})
    prompt, completion = _string(raw["prompt"], "prompt"), check_text(raw["completion"], "completion")
    text = prompt + completion
    return Checked(text, 0, prompt if prompt.strip() else text, {"prompt_end": len(prompt)})
