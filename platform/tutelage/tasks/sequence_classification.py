"""One label for each text.

Shapes: B batch, T tokens, C classes; here P = B and V = C.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tutelage.data.examples import Batch
from tutelage.models.load import load_classifier
from tutelage.models.padding import reads_padding
from tutelage.objectives import Dense
from tutelage.signals.exchange import Request, batch_digest
from tutelage.signals.packet import Counts
from tutelage.signals.spec import PayloadSpec
from tutelage.tasks.base import StudentRows, TeacherRows, spread
from tutelage.tasks.inputs import padded
from tutelage.tokenizer import read_texts


class SequenceClassificationKind:
    """The text is the one position. Teachers are asked in text, so any tokenizer will do."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = list(labels)

    def load(self, folder: str, *, dropout: float | None = None) -> Any:
        """A classifier with a row of logits for each of the task's labels."""
        return load_classifier(folder, self._labels, dropout=dropout)

    def request(self, batch: Batch, spec: PayloadSpec) -> Request:
        """The texts of the batch."""
        return Request(
            digest=batch_digest(batch.digests),
            examples=batch.digests,
            positions_N=np.ones(len(batch.digests), np.int32),
            spec=spec,
            texts=batch.texts,
        )

    def score(self, model: Any, tokenizer: Any, request: Request, max_tokens: int) -> TeacherRows:
        """Logits [B, C] in the model's own order of classes."""
        found = read_texts(tokenizer, request.texts, max_tokens)
        logits_BC = torch.empty(len(found), model.config.num_labels, device=model.device)
        for rows in _together(model, [len(tokens.ids) for tokens in found]):
            ids, types = [found[n].ids for n in rows], [found[n].types for n in rows]
            logits_BC[rows] = model(**padded(model, tokenizer, ids, max_tokens, types)).logits.float()
        return TeacherRows(logits_BC, np.ones(len(request), np.int32))

    def student(self, output: Any, batch: Batch) -> StudentRows:
        """Logits [B, C]."""
        logits_BC: Tensor = output.logits
        device = logits_BC.device
        return StudentRows(
            logits_BC,
            torch.from_numpy(batch.labels_B).to(device),
            torch.arange(len(logits_BC), device=device),
        )

    def place(self, values_RV: Tensor, lengths_N: Counts, rows: StudentRows, batch: Batch) -> Dense:
        """The rows as they are."""
        return Dense(*spread(values_RV, lengths_N, rows.examples_P))


def _together(model: Any, lengths: Sequence[int]) -> list[list[int]]:
    """Which texts may share a batch: all, or those of one length for a model that reads its padding."""
    if not reads_padding(model.config):
        return [list(range(len(lengths)))]
    return [[n for n, own in enumerate(lengths) if own == length] for length in sorted(set(lengths))]
