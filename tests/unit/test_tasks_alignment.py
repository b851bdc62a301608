"""Tokens of any tokenizer meet in the same spans of a text.

Shapes: n spans, U tokens in the text.
"""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import numpy as np
import pytest

from tests.unit.task_samples import UNICODE, trained_tokenizer
from tutelage.data.align import (
    begin_ranges,
    check_fast,
    encode_texts,
    end_ranges,
    first_tokens,
    merged_words,
)
from tutelage.data.words import split_words, words_of
from tutelage.errors import DataError, ModelError
from tutelage.testing.classification import word_tokenizer

pytestmark = pytest.mark.unit

KINDS = ["byte-bpe", "wordpiece", "unigram"]


def texts(count: int = 30) -> list[str]:
    """Random mixtures of words of many scripts, with doubled and odd white space."""
    rng = random.Random(3)
    return [
        "".join(
            rng.choice(UNICODE) + rng.choice([" ", "  ", "\u00a0", "\n", ""])
            for _ in range(rng.randrange(1, 12))
        )
        + "end"
        for _ in range(count)
    ]


@cache
def tokenizer(kind: str) -> Any:
    return trained_tokenizer(kind, texts())


def spans_of(words: list[str]) -> tuple[str, np.ndarray]:
    text, spans = "", []
    for word in words:
        spans.append((len(text), len(text) + len(word)))
        text += word + " "
    return text[:-1], np.array(spans, np.int32)


def seen(text: str, offset: tuple[int, int]) -> set[int]:
    """The code points of a token that are no white space."""
    return {place for place in range(*offset) if not text[place].isspace()}


def plain(kind: str, text: str) -> list[set[int]]:
    """The code points of every token in T, read off the tokenizer without any of the code under test."""
    encoding = tokenizer(kind)(text, return_offsets_mapping=True).encodings[0]
    places = zip(encoding.offsets, encoding.special_tokens_mask, strict=True)
    return [set() if special else seen(text, offset) for offset, special in places]


@pytest.mark.parametrize("kind", KINDS)
def test_a_word_takes_the_first_token_that_stands_in_it(kind: str) -> None:
    for seed in range(20):
        text, spans = spans_of(random.Random(seed).sample(UNICODE, 8))
        tokens = plain(kind, text)
        found = first_tokens(encode_texts(tokenizer(kind), [text], 512)[0], spans)
        expected = [
            next((t for t, points in enumerate(tokens) if points & set(range(*span))), -1)
            for span in spans.tolist()
        ]
        assert found.tolist() == expected


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_that_begin_and_end_in_a_word_are_those_of_a_plain_search(kind: str) -> None:
    for text in texts():
        words = words_of(text)
        encoded = encode_texts(tokenizer(kind), [text], 512)[0]
        tokens = plain(kind, text)
        for ranges, edge in ((begin_ranges(encoded, words), min), (end_ranges(encoded, words), max)):
            for (first, last), span in zip(ranges.tolist(), words.tolist(), strict=True):
                inside = [t for t, points in enumerate(tokens) if points and edge(points) in range(*span)]
                assert [first, last] == ([inside[0], inside[-1]] if inside else [-1, -1])


@pytest.mark.parametrize("kind", KINDS)
def test_joined_words_hold_whole_tokens_and_every_token_once(kind: str) -> None:
    for text in texts():
        words = words_of(text)
        encoded = encode_texts(tokenizer(kind), [text], 512)[0]
        spans, span_of = merged_words(encoded, words)
        assert (spans[1:, 0] >= spans[:-1, 1]).all()
        begins, ends = begin_ranges(encoded, spans), end_ranges(encoded, spans)
        assert np.array_equal(begins, ends)
        assert (begins >= 0).all()
        inside = [t for first, last in begins.tolist() for t in range(first, last + 1)]
        assert set(encoded.tokens_U.tolist()) <= set(inside)
        assert len(inside) == len(set(inside))
        for word, span in zip(words.tolist(), span_of.tolist(), strict=True):
            if span >= 0:
                assert spans[span, 0] <= word[0] < word[1] <= spans[span, 1]


def test_a_token_over_many_words_joins_them() -> None:
    """Of a script without spaces, three words of one character each are one token here."""
    found = word_tokenizer(["日本語", "と"])
    text = "日本語 と"
    encoded = encode_texts(found, [text], 64)[0]
    spans, span_of = merged_words(encoded, words_of(text))
    assert [text[a:b] for a, b in spans.tolist()] == ["日本語", "と"]
    assert span_of.tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("most", [3, 4, 5, 9, 11])
def test_what_max_tokens_cuts_drops_off_at_the_end(kind: str, most: int) -> None:
    text = "one two 日本語 été (1998) three"
    whole = encode_texts(tokenizer(kind), [text], 512)[0]
    part = encode_texts(tokenizer(kind), [text], most)[0]
    assert (len(part.ids), part.cut, whole.cut) == (most, True, False)
    words = words_of(text)
    whole_spans, _ = merged_words(whole, words)
    spans, span_of = merged_words(part, words)
    assert np.array_equal(spans, whole_spans[: len(spans)])
    assert len(spans) < len(whole_spans)
    assert (span_of[np.argmax(span_of < 0) :] == -1).all()
    firsts, all_firsts = first_tokens(part, words), first_tokens(whole, words)
    reached = int((firsts >= 0).sum())
    assert firsts.tolist() == [*all_firsts[:reached].tolist(), *[-1] * (len(words) - reached)]


@pytest.mark.parametrize("most", [8, 13, 20])
def test_the_context_is_cut_and_the_question_kept(most: int) -> None:
    found = tokenizer("wordpiece")
    question, context = "fine x", "don't naïve (1998) x fine don't naïve (1998) x fine"
    [encoded] = encode_texts(found, [context], most, [question])
    asked = found(question, add_special_tokens=False)["input_ids"]
    kept = min(len(asked), (most - 3) // 2)
    assert len(encoded.ids) == most
    assert encoded.ids[1 : 1 + kept].tolist() == asked[:kept]
    assert encoded.tokens_U[0] == kept + 2
    assert encoded.begins_U[0] == 0


def test_a_question_longer_than_all_tokens_leaves_half_of_them_to_the_context() -> None:
    found = tokenizer("byte-bpe")
    [encoded] = encode_texts(found, ["x x x x x x x x x x"], 15, ["日本語 " * 40])
    assert len(encoded.ids) == 15
    assert len(encoded.tokens_U) >= 6


def test_max_tokens_that_special_tokens_fill_are_refused() -> None:
    with pytest.raises(DataError, match=r"data\.max_tokens is 4, and special tokens alone take 3") as caught:
        encode_texts(tokenizer("wordpiece"), ["x"], 4, ["x"])
    assert caught.value.fix == "data.max_tokens=19 or more"


def test_a_tokenizer_without_offsets_is_refused() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(ModelError, match=r"teachers\.a: a Slow does not say where"):
        check_fast(Slow(), "teachers.a")


def test_an_empty_span_stands_for_the_special_token() -> None:
    encoded = encode_texts(tokenizer("wordpiece"), ["fine x"], 64, ["don't"])[0]
    none = np.zeros((1, 2), np.int32)
    assert begin_ranges(encoded, none).tolist() == end_ranges(encoded, none).tolist() == [[0, 0]]
    assert first_tokens(encoded, none).tolist() == [-1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It's (1998).", ["It", "'", "s", "(", "1998", ")", "."]),
        ("e\u0301te\u0301 \u200b", ["e\u0301te\u0301", "\u200b"]),
        ("日本語abc", ["日", "本", "語", "abc"]),
        ("👩\u200d👩\u200d👧👍🏽", ["👩\u200d👩\u200d👧", "👍", "🏽"]),
        ("  \n ", []),
        ("", []),
    ],
)
def test_words_are_runs_of_letters_single_signs_and_single_ideographs(text: str, words: list[str]) -> None:
    assert [text[a:b] for a, b in words_of(text).tolist()] == words


def test_words_cover_every_visible_character_once() -> None:
    for text in texts():
        covered = [place for span in words_of(text).tolist() for place in range(*span)]
        assert len(covered) == len(set(covered))
        assert {place for place, sign in enumerate(text) if not sign.isspace()} == set(covered)


def test_scripts_without_spaces_are_counted_by_character() -> None:
    assert split_words("state-of-the-art 日本") == ["state-of-the-art", "日", "本"]
