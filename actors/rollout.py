"""On-policy batches: the student completes prompts, and what it wrote is what the teachers score.

Shapes: B batch, T tokens, P prompt tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from blake3 import blake3
from numpy.typing import NDArray
from torch import Tensor

from tutelage.config.on_policy import OnPolicy
from tutelage.data.batch import Batch


class Writer(Protocol):
    """A student that can complete prompts."""

    def generate(self, input_ids_BP: Tensor, attention_mask_BP: Tensor, **settings: Any) -> Tensor:
        """Token ids [B, P + new], the prompts first."""
        ...


@dataclass(frozen=True)
class Rollout:
    """Which steps learn from the student's own texts, and how such a text is made."""

    config: OnPolicy
    seed: int
    pad_id: int
    end_id: int | None
    own_prompts: bool
    """Rows have prompts of their own; else their first `prompt_tokens` tokens are the prompt."""

    def chosen(self, step: int) -> bool:
        """A function of (seed, step), so a resumed run chooses the same steps."""
        words = np.random.SeedSequence([self.seed, step, 0x70])
        return float(np.random.Generator(np.random.PCG64(words)).random()) < self.config.fraction

    def write(self, student: Writer, batch: Batch) -> Batch:
        """The batch with the student's completions in place of the data's; positions are what it wrote.

        Draws from torch's generator, which the caller seeds. Texts carry no hard labels.
        """
        prompts = [self._prompt(ids, n) for ids, n in zip(batch.ids, batch.positions_B, strict=True)]
        written_BT = student.generate(
            *_left_padded(prompts, self.pad_id),
            max_new_tokens=self.config.max_new_tokens,
            min_new_tokens=1,
            do_sample=True,
            temperature=self.config.temperature,
            top_p=self.config.top_p,
            top_k=0,
            pad_token_id=self.pad_id,
            eos_token_id=self.end_id,
        )
        longest = max(map(len, prompts))
        completions = [self._until_end(row) for row in written_BT[:, longest:].cpu().numpy()]
        texts = [np.concatenate(pair) for pair in zip(prompts, completions, strict=True)]
        ids_BT, mask_BT = _right_padded(texts, self.pad_id)
        return replace(
            batch,
            digests=[blake3(b"own" + text.astype("<i4").tobytes()).digest(16) for text in texts],
            input_ids_BT=ids_BT,
            attention_mask_BT=mask_BT,
            labels_B=np.full(len(texts), -1),
            positions=np.array([len(completion) for completion in completions], np.int32),
            token_types_BT=None,
            fresh=True,
        )

    def _prompt(self, ids: NDArray[np.int32], positions: int) -> NDArray[np.int64]:
        if self.own_prompts:
            return ids[: len(ids) - positions].astype(np.int64)
        return ids[: self.config.prompt_tokens].astype(np.int64)

    def _until_end(self, tokens: NDArray[np.int64]) -> NDArray[np.int64]:
        """Up to and with the end token; what stands behind it is padding."""
        ends = np.flatnonzero(tokens == self.end_id)
        return tokens[: ends[0] + 1] if len(ends) else tokens


def _left_padded(rows: Sequence[NDArray[np.int64]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Ids and mask [B, P], the rows at the right, where a model goes on writing."""
    longest = max(map(len, rows))
    ids = np.full((len(rows), longest), pad_id, np.int64)
    mask = np.zeros_like(ids)
    for out, seen, row in zip(ids, mask, rows, strict=True):
        out[longest - len(row) :], seen[longest - len(row) :] = row, 1
    return torch.from_numpy(ids), torch.from_numpy(mask)


def _right_padded(
    rows: Sequence[NDArray[np.int64]], pad_id: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    longest = -(-max(map(len, rows)) // 8) * 8
    ids = np.full((len(rows), longest), pad_id, np.int64)
    mask = np.zeros_like(ids)
    for out, seen, row in zip(ids, mask, rows, strict=True):
        out[: len(row)], seen[: len(row)] = row, 1
    return ids, mask
