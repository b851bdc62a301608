"""One question to a teacher and its answer, tied together by the batch digest.

Shapes: N examples of the request, K teachers, T tokens of one example.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from tutelage.signals.packet import Counts, Packet
from tutelage.signals.spec import PayloadSpec

Logits = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Request:
    """Examples to be scored by one teacher. Which of the optional parts are there depends on the task."""

    digest: bytes
    """batch_digest of the examples, which the reply must echo."""
    examples: list[bytes]
    """Digest of each example; it seeds what is drawn for it."""
    positions_N: Counts
    """Positions of each example. A teacher whose own limit cuts a text covers fewer, never more."""
    spec: PayloadSpec
    texts: list[str] = field(default_factory=list)
    pairs: list[str] | None = None
    """A second text before each text: the question."""
    spans: list[NDArray[np.int32]] | None = None
    """int32[positions, 2] for each text: code points where each position begins and ends in it."""
    ids: list[NDArray[np.int32]] | None = None
    """int32[T] token ids for each example, where teacher and student share a vocabulary."""
    shares_NK: NDArray[np.float32] | None = None
    """Each teacher's share of the draws, where the payload samples from a mixture."""

    def __len__(self) -> int:
        return len(self.examples)

    def select(self, which: Sequence[int]) -> Request:
        """The same question about some of the examples, in the order given."""
        examples = [self.examples[n] for n in which]

        def pick(values: list[Any] | None) -> list[Any] | None:
            return None if values is None else [values[n] for n in which]

        return replace(
            self,
            digest=batch_digest(examples),
            examples=examples,
            positions_N=self.positions_N[list(which)],
            texts=[self.texts[n] for n in which] if self.texts else [],
            pairs=pick(self.pairs),
            spans=pick(self.spans),
            ids=pick(self.ids),
            shares_NK=None if self.shares_NK is None else self.shares_NK[list(which)],
        )

    @property
    def nbytes(self) -> int:
        """Bytes of what is asked: texts in UTF-8, token ids, spans, digests."""
        arrays = [*(self.spans or []), *(self.ids or [])]
        texts = [*self.texts, *(self.pairs or [])]
        return (
            sum(len(text.encode()) for text in texts)
            + sum(array.nbytes for array in arrays)
            + sum(map(len, self.examples))
            + (0 if self.shares_NK is None else self.shares_NK.nbytes)
        )

    @property
    def weights(self) -> list[int]:
        """About how many tokens of each example the teacher has to read; cutting goes by it."""
        if self.ids is not None:
            return [len(ids) for ids in self.ids]
        found = [len(text) // 4 + 2 for text in self.texts]
        if self.pairs is None:
            return found
        return [mine + len(text) // 4 + 2 for mine, text in zip(found, self.pairs, strict=True)]

    @property
    def weight(self) -> int:
        """About how many tokens the teacher has to read; routing goes by it."""
        return sum(self.weights)


@dataclass(frozen=True, eq=False)
class Reply:
    """A teacher's signals for one request."""

    digest: bytes
    packet: Packet
    teacher: str
    replica: str
    seconds: float
    """Time the teacher worked, without waiting."""


def batch_digest(examples: Sequence[bytes]) -> bytes:
    """16 bytes over the digests of a batch's examples, in order."""
    return blake3(b"".join(examples)).digest(16)
