"""The next token.

Token p of an example predicts token p + 1; the positions of an example are always its last ones, because a
completion ends the text. Teachers get the student's token ids, so both must have one vocabulary; V is the
tokens that the tokenizer knows, and logits of embeddings that are mere padding are cut off.

Shapes: B batch, T tokens, P positions of all examples, V vocabulary, H hidden.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from tutelage.data.batch import Batch
from tutelage.models.load import load_model
from tutelage.objectives import Dense
from tutelage.signals.exchange import Request, batch_digest
from tutelage.signals.packet import Counts
from tutelage.signals.spec import PayloadSpec
from tutelage.tasks.base import StudentRows, TeacherRows, spread
from tutelage.tasks.inputs import accepts, examples_of, flat, padded


class CausalLMKind:
    """Teachers are asked in token ids."""

    def load(self, folder: str, *, dropout: float | None = None) -> Any:
        """A model with a logit for each token of its embedding."""
        return load_model(folder, "causal-lm", dropout=dropout)

    def request(self, batch: Batch, spec: PayloadSpec) -> Request:
        """The token ids, and how many of the last are to be predicted."""
        return Request(
            digest=batch_digest(batch.digests),
            examples=batch.digests,
            positions_N=batch.positions_B,
            spec=spec,
            ids=batch.ids,
        )

    def score(self, model: Any, tokenizer: Any, request: Request, max_tokens: int) -> TeacherRows:
        """Logits [P, V], or where the payload is hidden the last hidden states [P, H] before the head."""
        ids = [row[:max_tokens] for row in request.ids or []]
        whole_N = np.array([len(row) for row in request.ids or []], np.int32)
        first_N = whole_N - 1 - request.positions_N
        kept_N = np.array([len(row) for row in ids], np.int32)
        # The last token that is kept predicts one more, unless it is the last of the text.
        lengths_N = np.clip(np.minimum(kept_N, whole_N - 1) - first_N, 0, None).astype(np.int32)
        inputs = padded(model, tokenizer, ids, max_tokens)
        places = [
            first + np.arange(count, dtype=np.int32) for first, count in zip(first_N, lengths_N, strict=True)
        ]
        example_P, token_P = examples_of(lengths_N, model.device), flat(places, model.device)
        if request.spec.kind == "hidden":
            states_BTH = model.base_model(**inputs).last_hidden_state
            return TeacherRows(states_BTH[example_P, token_P].float(), lengths_N)
        extra = {"use_cache": False} if accepts(model, "use_cache") else {}
        logits_BTV = model(**inputs, **extra).logits
        return TeacherRows(logits_BTV[example_P, token_P, : request.spec.width].float(), lengths_N)

    def student(self, output: Any, batch: Batch) -> StudentRows:
        """Logits [P, V]."""
        logits_BTV: Tensor = output.logits
        device = logits_BTV.device
        counts_B = batch.positions_B
        last_B = batch.attention_mask_BT.sum(1) - 1
        places = [
            last - count + np.arange(count, dtype=np.int32)
            for last, count in zip(last_B, counts_B, strict=True)
        ]
        examples_P = examples_of(counts_B, device)
        width = batch.vocabulary or logits_BTV.shape[-1]
        return StudentRows(
            logits_BTV[examples_P, flat(places, device), :width],
            torch.from_numpy(batch.labels_P).to(device),
            examples_P,
        )

    def place(self, values_RV: Tensor, lengths_N: Counts, rows: StudentRows, batch: Batch) -> Dense:
        """The rows at their positions; what lies beyond a teacher's own limit is unknown.

        Logits made of hidden states and a head that pads its vocabulary are cut to V.
        """
        return Dense(*spread(values_RV[:, : rows.logits_PV.shape[1]], lengths_N, rows.examples_P))
