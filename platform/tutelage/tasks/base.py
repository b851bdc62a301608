"""What a task must say, so that stream, trainer and objectives need not know which it is.

Positions are where something is predicted: the text itself, a span of it, or the next token. Teachers and
student give one row of logits for each, so that different tokenizers meet in the same positions.

Shapes: B batch, T tokens, P positions of the whole batch, V classes or vocabulary, R rows of logits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from tutelage.data.examples import Batch
from tutelage.objectives import Dense
from tutelage.signals.exchange import Request
from tutelage.signals.packet import Counts
from tutelage.signals.spec import PayloadSpec


@dataclass(frozen=True, eq=False)
class StudentRows:
    """The student's logits where something is predicted."""

    logits_PV: Tensor
    labels_P: Tensor
    """-1 where there is none or it must not be used."""
    examples_P: Tensor
    """int64: the example in B that a position belongs to; it rises."""


@dataclass(frozen=True, eq=False)
class TeacherRows:
    """A teacher's rows for one request, before its payload packs them."""

    values_RV: Tensor
    """Logits [R, V], or hidden states [R, H] when the request asks for hidden."""
    lengths_N: Counts
    """Rows of each example, at most Request.positions_N."""


class TaskKind(Protocol):
    """One kind of prediction."""

    def load(self, folder: str, *, dropout: float | None = None) -> Any:
        """A model of this task in fp32, eval mode. Raises ModelError."""
        ...

    def request(self, batch: Batch, spec: PayloadSpec) -> Request:
        """What a teacher must know to score the batch."""
        ...

    def score(self, model: Any, tokenizer: Any, request: Request, max_tokens: int) -> TeacherRows:
        """The teacher's side: run the model on the request. Called in inference mode."""
        ...

    def student(self, output: Any, batch: Batch) -> StudentRows:
        """The student's side: its rows from the model's output for the batch."""
        ...

    def place(self, values_RV: Tensor, lengths_N: Counts, rows: StudentRows, batch: Batch) -> Dense:
        """A dense signal's rows at the student's positions, with known_P where the teacher covers fewer."""
        ...


def spread(values_RV: Tensor, lengths_N: Counts, examples_P: Tensor) -> tuple[Tensor, Tensor | None]:
    """Rows at their positions: example n's rows are its first positions, what it lacks is 0 and unknown.

    Returns:
        Values [P, V], and known bool [P] or None when every position has its row.

    Raises:
        ValueError: an example has more rows than positions.
    """
    positions_N = torch.bincount(examples_P.cpu(), minlength=len(lengths_N))
    given_N = torch.from_numpy(lengths_N.astype("int64"))
    if bool((given_N > positions_N).any()):
        raise ValueError(f"rows {given_N.tolist()} for positions {positions_N.tolist()}")
    if bool((given_N == positions_N).all()):
        return values_RV, None
    starts_N = torch.cumsum(positions_N, 0) - positions_N
    place_P = torch.arange(len(examples_P)) - starts_N[examples_P.cpu()]
    known_P = (place_P < given_N[examples_P.cpu()]).to(values_RV.device)
    out_PV = values_RV.new_zeros(len(examples_P), values_RV.shape[1])
    out_PV[known_P] = values_RV
    return out_PV, known_P


def blank(batch: Batch) -> StudentRows:
    """The positions of a batch without a student: where teachers stand when they are judged alone."""
    examples_P = torch.from_numpy(np.repeat(np.arange(len(batch.rows)), batch.positions_B))
    width = batch.vocabulary or 1
    if batch.task == "question-answering":
        width = max((len(spans) for spans in batch.spans), default=1)
    nothing_PV = torch.zeros(1, 1).expand(len(examples_P), width)
    return StudentRows(nothing_PV, torch.from_numpy(batch.labels_P), examples_P)
