"""One label for each word of a text.

A position is a word; its logits are those of the first token that stands in it, of each tokenizer by its
own. Shapes: B batch, T tokens, P words of all examples, C classes; here V = C.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tutelage.data.align import encode_texts, first_tokens
from tutelage.data.batch import Batch
from tutelage.models.load import load_model
from tutelage.objectives import Dense
from tutelage.signals.exchange import Request, batch_digest
from tutelage.signals.packet import Counts
from tutelage.signals.spec import PayloadSpec
from tutelage.tasks.base import StudentRows, TeacherRows, spread
from tutelage.tasks.inputs import examples_of, flat, padded


class TokenClassificationKind:
    """Teachers are asked in text and words, so any tokenizer will do that says where its tokens stand."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = list(labels)

    def load(self, folder: str, *, dropout: float | None = None) -> Any:
        """A token classifier with a row of logits for each of the task's labels."""
        return load_model(folder, "token-classification", self._labels, dropout=dropout)

    def request(self, batch: Batch, spec: PayloadSpec) -> Request:
        """The texts, and the words in them that the student's tokens reach."""
        return Request(
            digest=batch_digest(batch.digests),
            examples=batch.digests,
            positions_N=batch.positions_B,
            spec=spec,
            texts=batch.texts,
            spans=batch.spans,
        )

    def score(self, model: Any, tokenizer: Any, request: Request, max_tokens: int) -> TeacherRows:
        """Logits [P, C] of the words, in the model's own order of classes.

        A text is covered up to the first word that this tokenizer gives no token, at the latest where
        `max_tokens` cut it.
        """
        encodings = encode_texts(tokenizer, request.texts, max_tokens)
        first = [
            _covered(first_tokens(encoded, spans))
            for encoded, spans in zip(encodings, request.spans or [], strict=True)
        ]
        lengths_N = np.array([len(tokens) for tokens in first], np.int32)
        inputs = padded(model, tokenizer, [encoded.ids for encoded in encodings], max_tokens)
        logits_BTC = model(**inputs).logits
        device = logits_BTC.device
        return TeacherRows(logits_BTC[examples_of(lengths_N, device), flat(first, device)].float(), lengths_N)

    def student(self, output: Any, batch: Batch) -> StudentRows:
        """Logits [P, C]."""
        logits_BTC: Tensor = output.logits
        device = logits_BTC.device
        examples_P = examples_of(batch.positions_B, device)
        return StudentRows(
            logits_BTC[examples_P, flat(batch.span_first, device)],
            torch.from_numpy(batch.labels_P).to(device),
            examples_P,
        )

    def place(self, values_RV: Tensor, lengths_N: Counts, rows: StudentRows, batch: Batch) -> Dense:
        """The rows at the words; words after those that the teacher covers are unknown."""
        return Dense(*spread(values_RV, lengths_N, rows.examples_P))


def _covered(first: Counts) -> Counts:
    missing = np.flatnonzero(first < 0)
    return first[: missing[0]] if len(missing) else first
