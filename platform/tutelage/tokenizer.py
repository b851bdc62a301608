"""Texts as the tokens of one tokenizer, cut to a limit and not padded.

Legend: T tokens of one text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.errors import DataError

Ints = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Tokens:
    """One text, special tokens included."""

    ids: Ints
    types: Ints | None
    """Token types; None where the tokenizer's model takes none."""


def read_texts(tokenizer: Any, texts: Sequence[str], max_tokens: int) -> list[Tokens]:
    """Each text in at most `max_tokens` tokens. Raises DataError where special tokens leave no room.

    The limit is given without padding: a tokenizer that rounds both at once refuses every limit that is no
    multiple of what it rounds to.
    """
    check_room(tokenizer, max_tokens)
    found = tokenizer(list(texts), truncation=True, max_length=max_tokens, padding=False)
    types = found.get("token_type_ids") or [None] * len(texts)
    return [
        Tokens(np.array(ids, np.int32), None if own is None else np.array(own, np.int32))
        for ids, own in zip(found["input_ids"], types, strict=True)
    ]


def check_room(tokenizer: Any, max_tokens: int, *, pair: bool = False) -> int:
    """How many tokens of text, or of question and text, there is room for beside the special ones.

    Raises:
        DataError: none. A tokenizer would cut nothing at all then, without a word.
    """
    room = max_tokens - int(tokenizer.num_special_tokens_to_add(pair=pair))
    if room < 1 + pair:
        raise DataError(
            f"data.max_tokens is {max_tokens}, and special tokens alone take {max_tokens - room}",
            fix=f"data.max_tokens={max_tokens - room + 16} or more",
        )
    return room
