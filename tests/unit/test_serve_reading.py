"""How far into a text a replica reads: the ids are those of the whole text, and most of it is left alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from serve_apps.reading import Reader, passes

pytestmark = pytest.mark.unit

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789éß你好.,!"


def _words() -> Any:
    """A word-piece tokenizer as BERT has it; a word of more than 12 letters is one unknown token."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *LETTERS, *(f"##{c}" for c in LETTERS), "good", "##ood"]
    vocabulary = {piece: n for n, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=12))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def _bytes() -> Any:
    """Byte-level pairs as GPT-2 and RoBERTa have them."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: n for n, piece in enumerate([*letters, "go", "od", "good", "Ġgood", "Ġgo"])}
    merges = [("g", "o"), ("o", "d"), ("go", "od"), ("Ġ", "good"), ("Ġ", "go")]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


def _sentence() -> Any:
    """Sentence pieces as XLM-RoBERTa has them: the best path through a whole word."""
    scores = [("<unk>", 0.0), ("▁", -2.0), ("▁good", -3.0), ("good", -3.5), *((c, -5.0) for c in LETTERS)]
    tokenizer = Tokenizer(models.Unigram(scores, unk_id=0, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return tokenizer


def _unsplit() -> Any:
    """One path through the whole text: no beginning is ever enough."""
    tokenizer = _sentence()
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = None
    return tokenizer


def _numbers_from_their_end() -> Any:
    """Digits in threes, counted from the last one: the first token depends on the last digit."""
    tokenizer = _bytes()
    threes = pre_tokenizers.Split(Regex(r"\d{1,3}(?=(?:\d{3})*(?!\d))"), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([threes, pre_tokenizers.ByteLevel(use_regex=False)])
    return tokenizer


KINDS = {
    "words": _words,
    "bytes": _bytes,
    "sentence": _sentence,
    "unsplit": _unsplit,
    "numbers": _numbers_from_their_end,
}
TEXTS = st.lists(
    st.one_of(
        st.sampled_from(
            ["good", " ", "  ", "\n", "12345678", "你好", "a" * 40, "[SEP]", "e\u0301", "🙂", "."]
        ),
        st.text(max_size=30),
    ),
    max_size=60,
).map(" ".join)


def _truncating(kind: str, max_tokens: int, direction: str = "right") -> Any:
    tokenizer = KINDS[kind]()
    tokenizer.enable_truncation(max_length=max_tokens, direction=direction)
    return tokenizer


class Counting:
    """A tokenizer that counts the characters it was given."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer, self.truncation, self.chars = tokenizer, tokenizer.truncation, 0

    def encode_batch(self, texts: list[str]) -> Any:
        self.chars += sum(map(len, texts))
        return self._tokenizer.encode_batch(texts)


@pytest.mark.parametrize("direction", ["right", "left"])
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(text=TEXTS, max_tokens=st.integers(3, 24))
def test_the_ids_are_those_of_the_whole_text(kind: str, direction: str, text: str, max_tokens: int) -> None:
    """Whatever the tokenizer splits by and the text holds, reading a beginning changes no id and no flag."""
    tokenizer = _truncating(kind, max_tokens, direction)
    whole = tokenizer.encode(text)
    found = Reader(tokenizer, max_tokens).read(text)
    assert (list(found.ids), found.truncated) == (whole.ids, bool(whole.overflowing))


@pytest.mark.parametrize("kind", ["words", "bytes", "sentence"])
def test_of_a_long_text_the_beginning_is_read(kind: str) -> None:
    """100,000 characters of words cost what a thousandth of them costs."""
    counting = Counting(_truncating(kind, 16))
    assert Reader(counting, 16).read("good film " * 10_000).truncated
    assert counting.chars <= 16 * 8


def test_one_unknown_word_without_end_is_read_to_its_end() -> None:
    """A word of 20,000 letters is one token; what comes after it is seen."""
    tokenizer = _truncating("words", 8)
    ids = Reader(tokenizer, 8).read("a" * 20_000 + " good").ids
    assert (
        list(ids) == tokenizer.encode("a" * 20_000 + " good").ids == [2, 1, tokenizer.token_to_id("good"), 3]
    )


@given(
    lengths=st.lists(st.integers(0, 600), max_size=80),
    most_tokens=st.integers(1, 4096),
    most_rows=st.integers(1, 40),
)
def test_passes_hold_every_text_once_within_their_bounds(
    lengths: list[int], most_tokens: int, most_rows: int
) -> None:
    """Rows times the longest stays within the bound, unless one text alone is longer."""
    found = list(passes(lengths, most_tokens, most_rows))
    assert sorted(n for rows in found for n in rows) == list(range(len(lengths)))
    for rows in found:
        assert 1 <= len(rows) <= most_rows
        assert len(rows) == 1 or len(rows) * max(lengths[n] for n in rows) <= most_tokens
