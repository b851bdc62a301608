"""From a record batch of rows to what a student reads of them: tokens, and where its positions are.

Legend: N rows, n spans of a row, T tokens of a row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from blake3 import blake3
from numpy.typing import NDArray

from tutelage.config.task import CausalLM, QuestionAnswering, Task, TaskName
from tutelage.data.align import Encoded, begin_ranges, encode_texts, first_tokens, merged_words
from tutelage.data.labels import UNLABELLED
from tutelage.errors import ModelError

Ints = NDArray[np.int32]
_INTS: Any = pa.list_(pa.int32())

TOKEN_FIELDS: dict[TaskName, list[Any]] = {
    "sequence-classification": [],
    "token-classification": [("positions", pa.int32()), ("span_first", _INTS)],
    "question-answering": [("positions", pa.int32()), ("span_first", _INTS), ("span_last", _INTS)],
    "causal-lm": [("positions", pa.int32())],
}
"""Columns that tokenised rows have beside those of the rows and `input_ids`; `token_types` where the
student's model takes them. In the file of tokens `spans` and `span_labels` are those that the tokens reach,
and `digest` covers all that decides a teacher's signal."""

NO_SPAN = np.zeros((1, 2), np.int32)
"""Stands for "no answer"."""


@dataclass(frozen=True)
class Read:
    """What one row became; `columns` replace or follow those of the row."""

    ids: Ints
    columns: dict[str, Any]


Encoder = Callable[[dict[str, list[Any]]], list[Read]]
"""Columns of a record batch -> one Read for each row."""


def encoder(task: Task, tokenizer: Any, max_tokens: int, name: str) -> Encoder:
    """How the rows of a task are read.

    Args:
        task: any but sequence-classification.
        tokenizer: a fast tokenizer of transformers.
        max_tokens: longer texts are cut here.
        name: the tokenizer in messages.

    Raises:
        ModelError: the tokenizer lacks a token that the task needs.
    """
    if isinstance(task, CausalLM):
        return lambda columns: _language(columns, tokenizer, max_tokens, task)
    if isinstance(task, QuestionAnswering):
        return lambda columns: _questions(columns, tokenizer, max_tokens, task.unanswerable, name)
    return lambda columns: _words(columns, tokenizer, max_tokens)


def signal_digest(*parts: str | bytes) -> bytes:
    """16 bytes over all that a teacher is told of one example."""
    hasher = blake3()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        hasher.update(len(data).to_bytes(8, "little") + data)
    return hasher.digest(length=16)


def _pairs_of(flat: list[int]) -> Ints:
    return np.array(flat, np.int32).reshape(-1, 2)


def _words(columns: dict[str, list[Any]], tokenizer: Any, max_tokens: int) -> list[Read]:
    """A word is a position where some token stands in it."""
    found = []
    for text, flat, tags, encoded in zip(
        columns["text"],
        columns["spans"],
        columns["span_labels"],
        encode_texts(tokenizer, columns["text"], max_tokens),
        strict=True,
    ):
        spans = _pairs_of(flat)
        first = first_tokens(encoded, spans)
        kept = first >= 0
        spans = np.ascontiguousarray(spans[kept])
        found.append(
            Read(
                encoded.ids,
                {
                    "digest": signal_digest("token-classification", text, spans.tobytes()),
                    "spans": spans.ravel(),
                    "span_labels": np.array(tags, np.int32)[kept],
                    "positions": len(spans),
                    "span_first": first[kept],
                },
            )
        )
    return found


def _questions(
    columns: dict[str, list[Any]], tokenizer: Any, max_tokens: int, unanswerable: bool, name: str
) -> list[Read]:
    encodings = encode_texts(tokenizer, columns["text"], max_tokens, columns["pair"])
    if unanswerable and any(encoded.special < 0 for encoded in encodings):
        raise ModelError(
            f"{name}: the tokenizer puts no special token before a text, which would stand for no answer",
            fix="use a model with such a token, such as [CLS], or set task.unanswerable=false",
        )
    return [
        _question(row, encoded, unanswerable) for row, encoded in zip(_rows(columns), encodings, strict=True)
    ]


def _rows(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _question(row: dict[str, Any], encoded: Encoded, unanswerable: bool) -> Read:
    spans, span_of = merged_words(encoded, _pairs_of(row["spans"]))
    gold = np.array(row["span_labels"], np.int32)
    if gold[0] != UNLABELLED:
        gold = span_of[gold]
        # The passage is known only where both of its ends are reached.
        gold = gold if (gold >= 0).all() else np.full(2, UNLABELLED, np.int32)
        gold = gold + (unanswerable & (gold >= 0))
    elif unanswerable and row["label"] != UNLABELLED:
        gold = np.zeros(2, np.int32)
    if unanswerable:
        spans = np.concatenate([NO_SPAN, spans])
    ranges = begin_ranges(encoded, spans)
    columns = {
        "digest": signal_digest("question-answering", row["pair"], row["text"], spans.tobytes()),
        "spans": spans.ravel(),
        "span_labels": gold.astype(np.int32),
        "positions": 2 if len(spans) else 0,
        "span_first": ranges[:, 0],
        "span_last": ranges[:, 1],
    }
    if encoded.types is not None:
        columns["token_types"] = encoded.types
    return Read(encoded.ids, columns)


def _language(columns: dict[str, list[Any]], tokenizer: Any, max_tokens: int, task: CausalLM) -> list[Read]:
    texts = columns["text"]
    end = tokenizer.eos_token_id if task.end_token else None
    found = []
    encodings = tokenizer(list(texts), return_offsets_mapping=True).encodings
    for prompt_end, encoding in zip(columns["prompt_end"], encodings, strict=True):
        ids = np.array(encoding.ids, np.int32)
        if end is not None and len(ids) < max_tokens and (not len(ids) or ids[-1] != end):
            ids = np.append(ids, np.int32(end))
        ids = ids[:max_tokens]
        first = _completion(encoding, prompt_end) if task.completion_only else 1
        positions = max(0, len(ids) - max(1, first))
        digest = signal_digest("causal-lm", ids.astype("<i4").tobytes(), positions.to_bytes(4, "little"))
        found.append(Read(ids, {"digest": digest, "positions": positions}))
    return found


def _completion(encoding: Any, prompt_end: int) -> int:
    """The first token that reaches into the completion."""
    ends = [
        end if place is not None else 0
        for place, (_, end) in zip(encoding.sequence_ids, encoding.offsets, strict=True)
    ]
    return next((index for index, end in enumerate(ends) if end > prompt_end), len(ends))
