"""The answer to a question is a passage of the context: a distribution over words for its first and its last.

The start logit of a word is the log of the summed exponentials of the start logits of the tokens that
begin in it; its end logit, of the end logits of the tokens that end in it. So the distribution over words
is what the distribution over tokens makes of them, whatever the tokenizer.

A teacher sends a row for each word it covers: R words of all examples, width 2 (start, end). The student
has two positions an example (start, end), and V is the largest number of words in the batch; what an
example lacks is ABSENT. Shapes: B batch, T tokens, W words of all examples, P = 2B.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from tutelage.data.align import Encoded, begin_ranges, encode_texts, end_ranges
from tutelage.data.batch import Batch, Ints
from tutelage.models.load import load_model
from tutelage.objectives import Dense
from tutelage.signals.exchange import Request, batch_digest
from tutelage.signals.packet import Counts
from tutelage.signals.spec import PayloadSpec
from tutelage.tasks.base import StudentRows, TeacherRows
from tutelage.tasks.inputs import ABSENT, examples_of, flat, padded, range_logsumexp

START, END = 0, 1


class QuestionAnsweringKind:
    """Teachers are asked in question, context and words, so any tokenizer will do that places its tokens."""

    def load(self, folder: str, *, dropout: float | None = None) -> Any:
        """A model with a start and an end logit for each token."""
        return load_model(folder, "question-answering", dropout=dropout)

    def request(self, batch: Batch, spec: PayloadSpec) -> Request:
        """Questions, contexts, and the words of the contexts that the student's tokens reach.

        positions_N counts those words: a teacher's rows, not the student's two positions.
        """
        spans = batch.spans
        return Request(
            digest=batch_digest(batch.digests),
            examples=batch.digests,
            positions_N=np.array([len(words) for words in spans], np.int32),
            spec=spec,
            texts=batch.texts,
            pairs=batch.pairs,
            spans=spans,
        )

    def score(self, model: Any, tokenizer: Any, request: Request, max_tokens: int) -> TeacherRows:
        """Start and end logits [W, 2]. A word that no token begins or ends in is ABSENT there."""
        encodings = encode_texts(tokenizer, request.texts, max_tokens, request.pairs or [])
        spans = [
            _covered(encoded, words) for encoded, words in zip(encodings, request.spans or [], strict=True)
        ]
        lengths_N = np.array([len(words) for words in spans], np.int32)
        types = [encoded.types for encoded in encodings]
        inputs = padded(model, tokenizer, [encoded.ids for encoded in encodings], max_tokens, types)
        output = model(**inputs)
        example_W = examples_of(lengths_N, output.start_logits.device)
        columns = []
        for logits_BT, ranges_of in ((output.start_logits, begin_ranges), (output.end_logits, end_ranges)):
            found = [ranges_of(encoded, words) for encoded, words in zip(encodings, spans, strict=True)]
            first_W, last_W = (
                flat([ranges[:, side] for ranges in found], logits_BT.device) for side in (0, 1)
            )
            columns.append(range_logsumexp(logits_BT, example_W, first_W, last_W))
        return TeacherRows(torch.stack(columns, dim=1), lengths_N)

    def student(self, output: Any, batch: Batch) -> StudentRows:
        """Logits [2B, V]: start and end of each example over its words."""
        device = output.start_logits.device
        words_N = np.array([len(first) for first in batch.span_first], np.int32)
        example_W = examples_of(words_N, device)
        first_W, last_W = flat(batch.span_first, device), flat(batch.span_last, device)
        values_W2 = torch.stack(
            [
                range_logsumexp(logits_BT, example_W, first_W, last_W)
                for logits_BT in (output.start_logits, output.end_logits)
            ],
            dim=1,
        )
        return StudentRows(
            _transposed(values_W2, words_N, int(words_N.max(initial=1)), batch.positions_B),
            torch.from_numpy(batch.labels_P).to(device),
            examples_of(batch.positions_B, device),
        )

    def place(self, values_RV: Tensor, lengths_N: Counts, rows: StudentRows, batch: Batch) -> Dense:
        """The teacher's words at the student's; words that it does not cover are ABSENT."""
        width = rows.logits_PV.shape[1]
        placed_PV = _transposed(values_RV, lengths_N, width, batch.positions_B)
        if bool((lengths_N[batch.positions_B > 0] > 0).all()):
            return Dense(placed_PV)
        known_P = torch.from_numpy(np.repeat(lengths_N > 0, batch.positions_B)).to(values_RV.device)
        return Dense(placed_PV, known_P)


def _transposed(values_W2: Tensor, words_N: Counts, width: int, positions_B: Ints) -> Tensor:
    """[P, V] from [W, 2]: for each example that has positions its start row, then its end row."""
    out_NV2 = values_W2.new_full((len(words_N), width, 2), ABSENT)
    example_W = examples_of(words_N, values_W2.device)
    place_W = torch.from_numpy(np.concatenate([np.empty(0, np.int64), *map(np.arange, words_N)]))
    out_NV2 = out_NV2.index_put((example_W, place_W.to(values_W2.device)), values_W2)
    kept = torch.from_numpy(np.flatnonzero(positions_B)).to(values_W2.device)
    return out_NV2[kept].transpose(1, 2).reshape(-1, width)


def _covered(encoded: Encoded, words: Ints) -> Ints:
    """The first words of the context, all that stand before the place where it was cut."""
    if not encoded.cut:
        return words
    end = encoded.ends_U[-1] if len(encoded.ends_U) else 0
    return words[: int(np.searchsorted(words[:, 1], end, side="right"))]
