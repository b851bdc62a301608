"""What one step reads: padded tokens, and what the task needs beside them, read when it is asked for.

Legend: B batch, T tokens, P positions of all examples (where something is predicted), S spans of all
examples, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tutelage.config.task import TaskName
from tutelage.data.labels import UNLABELLED

Ints = NDArray[np.int32]


class RowReader(Protocol):
    """Where the columns of a batch's rows are read; `Examples` is one."""

    def texts(self, rows: NDArray[np.int64]) -> list[str]:
        """The text of each row."""
        ...

    def pairs(self, rows: NDArray[np.int64]) -> list[str]:
        """The question of each row."""
        ...

    def answers(self, rows: NDArray[np.int64]) -> list[list[str]]:
        """The texts of the right answers of each row."""
        ...

    def lists(self, column: str, rows: NDArray[np.int64]) -> list[Ints]:
        """The numbers that a list column holds for each row."""
        ...


@dataclass(frozen=True)
class Batch:
    """One batch, padded on the right."""

    rows: NDArray[np.int64]
    digests: list[bytes]
    """16 bytes for each example over all that decides a teacher's signal for it."""
    input_ids_BT: NDArray[np.int64]
    attention_mask_BT: NDArray[np.int64]
    labels_B: NDArray[np.int64]
    """Class of the text; for other tasks 0 where the example's labels may be used, and -1 where not."""
    _examples: RowReader = field(repr=False)
    task: TaskName = "sequence-classification"
    positions: Ints | None = None
    """Positions of each example, int32[B]; None means one."""
    token_types_BT: NDArray[np.int64] | None = None
    """0 in the question, 1 in the context; None where the tokenizer knows no such thing."""
    vocabulary: int = 0
    """causal-lm: V, the tokens that the tokenizer knows. Models may embed more."""
    fresh: bool = False
    """Written by the student in this step: its signals will not be asked for again."""

    @property
    def positions_B(self) -> Ints:  # noqa: N802  # shape suffix
        """Positions of each example, int32[B]."""
        return np.ones(len(self.rows), np.int32) if self.positions is None else self.positions

    @property
    def texts(self) -> list[str]:
        """The texts, read from the file when asked for."""
        return self._examples.texts(self.rows)

    @property
    def pairs(self) -> list[str]:
        """question-answering: the questions."""
        return self._examples.pairs(self.rows)

    @property
    def answers(self) -> list[list[str]]:
        """question-answering: the texts of the right answers; an empty list where there is none."""
        return self._examples.answers(self.rows)

    @cached_property
    def spans(self) -> list[Ints]:
        """int32[n, 2] for each example: code points where the spans that its tokens reach begin and end.

        token-classification: words, each a position. question-answering: words of the context, among
        which the answer's first and last are chosen; an empty span at 0 stands for "no answer".
        """
        return [flat.reshape(-1, 2) for flat in self._examples.lists("spans", self.rows)]

    @cached_property
    def span_first(self) -> list[Ints]:
        """int32[n] for each example: the first token of each span."""
        return self._examples.lists("span_first", self.rows)

    @cached_property
    def span_last(self) -> list[Ints]:
        """int32[n] for each example: the last token of each span."""
        return self._examples.lists("span_last", self.rows)

    @property
    def ids(self) -> list[Ints]:
        """int32[T] for each example: its tokens without padding."""
        lengths_B = self.attention_mask_BT.sum(1)
        return [ids[:n].astype(np.int32) for ids, n in zip(self.input_ids_BT, lengths_B, strict=True)]

    @cached_property
    def labels_P(self) -> NDArray[np.int64]:  # noqa: N802  # shape suffix
        """The label of each position, -1 where it is missing or not to be used.

        token-classification: the tag. question-answering: for each example the answer's first and then
        its last span. causal-lm: the token that comes next.
        """
        if self.task == "sequence-classification":
            return self.labels_B
        if self.task == "causal-lm":
            found = self._next_tokens()
        else:
            found = self._examples.lists("span_labels", self.rows)
        usable_B = self.labels_B != UNLABELLED
        flat = [
            labels if use else np.full(len(labels), -1) for labels, use in zip(found, usable_B, strict=True)
        ]
        return np.concatenate([np.empty(0, np.int64), *flat]).astype(np.int64)

    def _next_tokens(self) -> list[Ints]:
        return [ids[len(ids) - count :] for ids, count in zip(self.ids, self.positions_B, strict=True)]
