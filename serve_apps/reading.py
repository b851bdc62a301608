"""From texts to token ids, one text at a time, and no further into a text than the model reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

CHARS_A_TOKEN = 8
"""Characters looked at first for each token that the model reads: English has 4 to 5, spaces included."""
GROWTH = 4
NEAR = 256
"""Characters before a cut that may be given up to end at white space."""


@dataclass(frozen=True)
class Read:
    """The tokens of one text."""

    ids: Sequence[int]
    """At most `max_tokens`, special tokens included."""
    truncated: bool
    """True when the text has more tokens."""


class Reader:
    """Tokenises the beginning of a text that decides its first `max_tokens` tokens.

    A tokenizer makes tokens of a whole text before it truncates, some 150 bytes for each: 64 texts of
    20,000 characters take 100 MB to be read for 48 tokens each. No number of characters is always enough
    (a word of any length may be one unknown token), so what was read is checked: when the last kept word
    stands before the last word of the piece, no later character can change a kept token. Otherwise a
    longer piece is read, at last the whole text. So the ids are those of the whole text.

    Args:
        tokenizer: a `tokenizers.Tokenizer` that truncates to `max_tokens`, without padding.
        max_tokens: what the model reads.
    """

    def __init__(self, tokenizer: Any, max_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._first = max_tokens * CHARS_A_TOKEN
        # A tokenizer that keeps the end of a text needs all of it.
        self._from_start = (tokenizer.truncation or {}).get("direction") == "right"

    def read(self, text: str) -> Read:
        """The ids of the text."""
        for piece in self._pieces(text):
            # Not `encode`: only `encode_batch` lets other threads run meanwhile.
            encoding = self._tokenizer.encode_batch([piece])[0]
            if len(piece) == len(text) or _settled(encoding):
                break
        return Read(encoding.ids, truncated=bool(encoding.overflowing))

    def _pieces(self, text: str) -> Iterator[str]:
        size = self._first
        while self._from_start and size < len(text):
            yield text[: _white(text, size)]
            size *= GROWTH
        yield text


def _white(text: str, size: int) -> int:
    """Where to cut: at white space, as some tokenizers split a word (a number) from its end."""
    for at in range(size, max(size - NEAR, 1), -1):
        if text[at].isspace():
            return at
    return size


def _settled(encoding: Any) -> bool:
    kept = max((word for word in encoding.word_ids if word is not None), default=-1)
    return any(word is not None and word > kept for rest in encoding.overflowing for word in rest.word_ids)


def passes(lengths: Sequence[int], most_tokens: int, most_rows: int) -> Iterator[list[int]]:
    """Positions of texts that go through the model together: of similar length, padding counted.

    Args:
        lengths: tokens of each text.
        most_tokens: rows x longest row of one pass; a longer text goes alone.
        most_rows: texts of one pass.
    """
    rows: list[int] = []
    for n in sorted(range(len(lengths)), key=lambda n: lengths[n]):
        if rows and (len(rows) == most_rows or (len(rows) + 1) * lengths[n] > most_tokens):
            yield rows
            rows = []
        rows.append(n)
    if rows:
        yield rows
