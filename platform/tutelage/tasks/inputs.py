"""From tokens to what a model is called with, and from its outputs to the rows that count.

Shapes: B batch, T tokens, P positions of the whole batch, S spans of the whole batch, V classes.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tutelage.data.padding import mask_rows, pad_rows, padded_width
from tutelage.models.padding import padding_side, padding_token, reads_padding

Ints = NDArray[np.int32]

ABSENT = -1e4
"""Logit of what cannot be chosen: finite, so that 0 times it is 0; its probability is 0 up to T = 50."""


def padded(
    model: Any,
    tokenizer: Any,
    ids: Sequence[Ints],
    max_tokens: int,
    types: Sequence[Ints | None] | None = None,
) -> dict[str, Tensor]:
    """Padded tokens on the model's device: int64 [B, T] each; T never goes beyond `max_tokens`.

    They are padded on the right, or on the left for a model that answers from its last place. T is that of
    the longest row for a model that reads its padding. Token types are left out where the model does not
    take them.
    """
    lengths = [len(row) for row in ids]
    longest, side = max(lengths, default=1), padding_side(model.config)
    width = max(1, longest) if reads_padding(model.config) else padded_width(longest, max_tokens)
    arrays = {
        "input_ids": pad_rows(ids, padding_token(model.config, tokenizer), width, side),
        "attention_mask": mask_rows(lengths, width, side),
    }
    own = [row for row in types or () if row is not None]
    if own and accepts(model, "token_type_ids"):
        arrays["token_type_ids"] = pad_rows(own, 0, width, side)
    return {name: torch.from_numpy(array).to(model.device) for name, array in arrays.items()}


def accepts(model: Any, argument: str) -> bool:
    """Whether the model's forward has an argument of this name."""
    return argument in inspect.signature(model.forward).parameters


def examples_of(counts_B: Ints, device: torch.device) -> Tensor:
    """int64 [P]: the example that each position belongs to."""
    return torch.from_numpy(np.repeat(np.arange(len(counts_B)), counts_B)).to(device)


def flat(lists: Sequence[Ints], device: torch.device) -> Tensor:
    """int64: the numbers of all examples, one after another."""
    return torch.from_numpy(np.concatenate([np.empty(0, np.int64), *lists]).astype(np.int64)).to(device)


def range_logsumexp(logits_BT: Tensor, example_S: Tensor, first_S: Tensor, last_S: Tensor) -> Tensor:
    """fp32 [S]: log of the summed exponentials from the first to the last token; ABSENT where first is -1."""
    if not len(first_S):
        return logits_BT.new_zeros(0, dtype=torch.float32)
    longest = int((last_S - first_S).max()) + 1
    steps_L = torch.arange(longest, device=logits_BT.device)
    places_SL = first_S[:, None] + steps_L[None, :]
    inside_SL = (places_SL <= last_S[:, None]) & (first_S[:, None] >= 0)
    safe_SL = torch.where(inside_SL, places_SL, 0)
    values_SL = logits_BT.float()[example_S[:, None], safe_SL]
    # A row without a token must not be -inf, whose gradient is NaN.
    values_SL = torch.where(inside_SL, values_SL, torch.full_like(values_SL, ABSENT))
    total_S: Tensor = torch.logsumexp(values_SL, dim=1)
    return torch.where(first_S >= 0, total_S, torch.full_like(total_S, ABSENT))
