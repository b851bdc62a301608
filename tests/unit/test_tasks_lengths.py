"""Texts are cut to any limit and padded by themselves: no limit, batch or number of classes breaks a teacher.

Shapes: N texts, T tokens, C classes.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tutelage.config.task import SequenceClassification
from tutelage.data.padding import mask_rows, pad_rows, padded_width
from tutelage.errors import DataError
from tutelage.models.load import load_classifier, load_tokenizer
from tutelage.signals.exchange import Request
from tutelage.signals.spec import PayloadSpec
from tutelage.tasks import build_task
from tutelage.testing import sentences, tiny_family
from tutelage.tokenizer import read_texts

pytestmark = pytest.mark.unit

KINDS = ["bert", "roberta", "albert", "deberta-v2", "xlnet", "t5", "gpt2", "modernbert", "convbert"]
POSITIONS = 61
"""The limit of the models here: no multiple of anything, and texts reach beyond it."""
LEAST = 4
"""The smallest data.max_tokens of a job."""
FEW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lengths")


@cache
def loaded(place: Path, kind: str, classes: int) -> tuple[Any, Any]:
    folder = place / f"{kind}-{classes}"
    tiny_family(kind, folder, [f"class {n}" for n in range(classes)], positions=POSITIONS)
    return load_classifier(folder), load_tokenizer(folder)


def texts_of(count: int, seed: int) -> list[str]:
    """Texts of very different length, some of them far beyond the limit."""
    found = sentences(count, seed)
    return [" ".join([text] * (1 + 7 * (n % 3))) for n, text in enumerate(found)]


def asked(texts: list[str], classes: int) -> Request:
    marks = [text.encode() for text in texts]
    return Request(b"-", marks, np.ones(len(texts), np.int32), PayloadSpec("dense", classes), texts=texts)


@FEW
@given(
    kind=st.sampled_from(KINDS),
    limit=st.integers(LEAST, POSITIONS),
    count=st.integers(1, 17),
    classes=st.integers(2, 5),
    seed=st.integers(0, 99),
)
def test_a_teacher_answers_at_every_limit_what_the_model_says_of_each_text_alone(
    place: Path, kind: str, limit: int, count: int, classes: int, seed: int
) -> None:
    model, tokenizer = loaded(place, kind, classes)
    task = build_task(SequenceClassification(labels=[f"class {n}" for n in range(classes)]))
    texts = texts_of(count, seed)
    with torch.inference_mode():
        rows = task.score(model, tokenizer, asked(texts, classes), limit)
        alone = [
            model(**tokenizer(text, truncation=True, max_length=limit, return_tensors="pt")).logits[0]
            for text in texts
        ]
    assert rows.values_RV.shape == (count, classes)
    torch.testing.assert_close(rows.values_RV, torch.stack(alone), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_no_text_has_more_tokens_than_any_limit_allows(place: Path, kind: str) -> None:
    tokenizer = loaded(place, kind, 2)[1]
    texts = texts_of(6, 1)
    for limit in range(LEAST, 130):
        assert max(len(tokens.ids) for tokens in read_texts(tokenizer, texts, limit)) <= limit


@pytest.mark.parametrize(("kind", "special"), [("bert", 2), ("t5", 1), ("xlnet", 2)])
def test_a_limit_that_special_tokens_fill_is_refused_and_the_next_one_is_not(
    place: Path, kind: str, special: int
) -> None:
    tokenizer = loaded(place, kind, 2)[1]
    for limit in range(special + 1):
        with pytest.raises(DataError, match=f"special tokens alone take {special}"):
            read_texts(tokenizer, texts_of(2, 0), limit)
    assert len(read_texts(tokenizer, texts_of(2, 0), special + 1)[0].ids) == special + 1


@given(lengths=st.lists(st.integers(0, 70), min_size=1, max_size=9), spare=st.integers(0, 20))
def test_padding_reaches_a_multiple_of_eight_or_the_limit_and_keeps_every_token(
    lengths: list[int], spare: int
) -> None:
    longest = max(lengths)
    for limit in (None, longest + spare):
        width = padded_width(longest, limit)
        assert longest <= width <= max(longest + 7, 8)
        assert width % 8 == 0 or width in (limit, longest)
        assert limit is None or width <= max(limit, longest, 1)
        for side in ("left", "right"):
            rows = [list(range(1, length + 1)) for length in lengths]
            ids_NT, mask_NT = pad_rows(rows, 0, width, side), mask_rows(lengths, width, side)
            assert [list(row[row > 0]) for row in ids_NT] == rows
            assert ((ids_NT > 0) == (mask_NT == 1)).all()
