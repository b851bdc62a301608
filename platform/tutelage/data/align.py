"""Where the tokens of any tokenizer stand in a text, and which spans of it they reach.

Every tokenizer says for each token which code points it came from. The white space that some count to a
token (byte-level BPE, SentencePiece) is taken off, so that different tokenizers meet in the same words.

Legend: n spans, U tokens that stand in the text (no special ones), T all tokens of an example.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.tokenizer import check_fast, check_room

Ints = NDArray[np.int32]

_WHITE = np.array([chr(code).isspace() for code in range(0x3002)])
"""Whether a code point is white space; none beyond U+3000 is."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """The tokens of one text, or of a question and a text."""

    ids: Ints
    types: Ints | None
    """0 in the question and 1 in the text; None where the tokenizer's model does not take it."""
    tokens_U: Ints
    """Index in T of each token that stands in the text."""
    begins_U: Ints
    """Code point of the text where it begins, white space taken off."""
    ends_U: Ints
    special: int
    """Index in T of the token that stands for the whole, [CLS]; -1 when there is none."""
    cut: bool
    """The text was longer than the tokens allowed."""


def encode_texts(
    tokenizer: Any, texts: Sequence[str], max_tokens: int, questions: Sequence[str] | None = None
) -> list[Encoded]:
    """Tokens of each text, at most `max_tokens` with special ones; questions are kept, texts are cut.

    A question that would take more than half of the tokens is cut to half of them.

    Args:
        tokenizer: a fast tokenizer of transformers.
        texts: N texts.
        max_tokens: more than the special tokens.
        questions: N texts that stand before the texts.

    Raises:
        DataError: max_tokens leave no room beside the special tokens.
        ModelError: the tokenizer does not tell where its tokens stand.
    """
    check_fast(tokenizer, str(getattr(tokenizer, "name_or_path", "")) or "tokenizer")
    pair = questions is not None
    room = check_room(tokenizer, max_tokens, pair=pair)
    first = [texts] if questions is None else [_fitted(tokenizer, questions, room // 2), texts]
    found = tokenizer(
        *[list(part) for part in first],
        truncation="only_second" if pair else True,
        max_length=max_tokens,
        return_offsets_mapping=True,
    )
    typed = "token_type_ids" in tokenizer.model_input_names
    return [
        _encoded(text, encoding, 1 if pair else 0, typed, tokenizer.cls_token_id)
        for text, encoding in zip(texts, found.encodings, strict=True)
    ]


def _fitted(tokenizer: Any, questions: Sequence[str], most: int) -> list[str]:
    """Questions of at most about `most` tokens."""
    fitted = list(questions)
    for n, question in enumerate(questions):
        if len(question.encode()) <= most:
            continue
        offsets = tokenizer(question, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        while len(offsets) > most:
            fitted[n] = fitted[n][: offsets[most][0]].rstrip()
            shorter = tokenizer(fitted[n], add_special_tokens=False, return_offsets_mapping=True)
            # A text may have more tokens once its end is cut off.
            offsets, most_before = shorter["offset_mapping"], len(offsets)
            if len(offsets) >= most_before:
                fitted[n], offsets = "", []
    return fitted


def _encoded(text: str, encoding: Any, sequence: int, typed: bool, cls: int | None) -> Encoded:
    ids = np.array(encoding.ids, np.int32)
    # None, of special tokens, becomes -1: a comparison of objects is slow.
    parts = np.array([-1 if part is None else part for part in encoding.sequence_ids], np.int8)
    offsets = np.array(encoding.offsets, np.int32).reshape(-1, 2)
    mine = np.flatnonzero((parts == sequence) & (offsets[:, 0] < offsets[:, 1]))
    after, before = _visible(text)
    begins, ends = after[offsets[mine, 0]], before[offsets[mine, 1] - 1] + 1
    seen = begins < ends
    special = np.flatnonzero(parts == -1)
    named = special[ids[special] == cls] if cls is not None else special
    return Encoded(
        ids,
        np.array(encoding.type_ids, np.int32) if typed else None,
        mine[seen].astype(np.int32),
        # Offsets fall back where a normaliser reorders marks; searching needs them to rise.
        np.maximum.accumulate(begins[seen]),
        np.maximum.accumulate(ends[seen]),
        int(named[0]) if len(named) else -1,
        bool(encoding.overflowing),
    )


def _visible(text: str) -> tuple[Ints, Ints]:
    """For each code point, the next one and the last one (itself included) that is no white space."""
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    white = _WHITE[np.minimum(codes, len(_WHITE) - 1)]
    places = np.arange(len(codes), dtype=np.int32)
    after = np.minimum.accumulate(np.where(white, np.int32(len(codes)), places)[::-1])[::-1]
    return after, np.maximum.accumulate(np.where(white, np.int32(-1), places))


def first_tokens(encoded: Encoded, spans: Ints) -> Ints:
    """int32[n]: for each span [n, 2] the first token (in T) that shares a code point with it, or -1."""
    at = np.searchsorted(encoded.ends_U, spans[:, 0], side="right")
    inside = at < len(encoded.tokens_U)
    safe = np.where(inside, at, 0)
    if not len(encoded.tokens_U):
        return np.full(len(spans), -1, np.int32)
    found = inside & (encoded.begins_U[safe] < spans[:, 1]) & (spans[:, 0] < spans[:, 1])
    return np.where(found, encoded.tokens_U[safe], -1).astype(np.int32)


def begin_ranges(encoded: Encoded, spans: Ints) -> Ints:
    """int32[n, 2]: the first and the last token (in T) that begin inside each span; -1 where none does.

    An empty span stands for the special token.
    """
    lo = np.searchsorted(encoded.begins_U, spans[:, 0], side="left")
    hi = np.searchsorted(encoded.begins_U, spans[:, 1], side="left")
    return _ranges(encoded, spans, lo, hi)


def end_ranges(encoded: Encoded, spans: Ints) -> Ints:
    """int32[n, 2]: as begin_ranges, of the tokens that end inside each span."""
    lo = np.searchsorted(encoded.ends_U, spans[:, 0], side="right")
    hi = np.searchsorted(encoded.ends_U, spans[:, 1], side="right")
    return _ranges(encoded, spans, lo, hi)


def _ranges(encoded: Encoded, spans: Ints, lo: NDArray[Any], hi: NDArray[Any]) -> Ints:
    out = np.full((len(spans), 2), -1, np.int32)
    some = hi > lo
    out[some, 0] = encoded.tokens_U[lo[some]]
    out[some, 1] = encoded.tokens_U[hi[some] - 1]
    out[spans[:, 0] == spans[:, 1]] = encoded.special
    return out


def merged_words(encoded: Encoded, words: Ints) -> tuple[Ints, Ints]:
    """Words joined where one token reaches over several of them, and cut to those that tokens reach.

    A script without spaces has many words a token; an answer of such a tokenizer begins and ends at
    its tokens.

    Args:
        encoded: the text's tokens.
        words: int32[W, 2].

    Returns:
        Spans int32[n, 2], and for each of the W words its span, or -1.
    """
    if not len(words) or not len(encoded.tokens_U):
        return np.empty((0, 2), np.int32), np.full(len(words), -1, np.int32)
    first = np.searchsorted(words[:, 1], encoded.begins_U, side="right")
    last = np.searchsorted(words[:, 0], encoded.ends_U, side="left") - 1
    first, last = np.minimum(first, len(words) - 1), np.maximum(last, 0)
    joined = np.zeros(len(words) + 1, np.int64)  # +1 where a token opens, -1 where it closes
    np.add.at(joined, first, 1)
    np.add.at(joined, np.maximum(last, first), -1)
    open_after = np.cumsum(joined)[:-1] > 0  # word w is joined to w + 1
    group = np.concatenate([[0], np.cumsum(~open_after[:-1])])
    reached = np.zeros(group[-1] + 1, bool)
    reached[group[first]] = True
    starts = np.searchsorted(group, np.arange(group[-1] + 1), side="left")
    stops = np.searchsorted(group, np.arange(group[-1] + 1), side="right") - 1
    spans = np.stack([words[starts, 0], words[stops, 1]], axis=1).astype(np.int32)
    if encoded.cut:
        reached &= spans[:, 1] <= encoded.ends_U[-1]
    number = np.where(reached, np.cumsum(reached) - 1, -1)
    return spans[reached], number[group].astype(np.int32)
