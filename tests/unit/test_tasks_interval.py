"""Intervals of scores: Wilson's for labels of texts, drawn texts for every other metric."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.config.task import QuestionAnswering, SequenceClassification, TokenClassification
from tutelage.tasks.interval import mean_interval, wilson
from tutelage.tasks.metrics import Sums

pytestmark = pytest.mark.unit

TEXTS = SequenceClassification(labels=["no", "yes"])
WORDS = TokenClassification(type="token-classification", labels=["O", "X"])
ANSWERS = QuestionAnswering(type="question-answering")


def texts(right: int, of: int) -> Sums:
    """So many texts with a label, the first of them right."""
    hits = (np.arange(of) < right).astype(float)
    return {"nll": 1 - hits, "positions": np.ones(of), "right": hits}


def test_the_interval_of_an_accuracy_is_wilsons() -> None:
    """728 of 1000: 0.700 to 0.755, by the textbook's formula."""
    low, high = mean_interval(TEXTS, {"all": texts(728, 1000)}) or (0, 0)
    assert (low, high) == (pytest.approx(0.6996, abs=1e-4), pytest.approx(0.7547, abs=1e-4))
    assert (low, high) == wilson(0.728, 1000)


def test_a_perfect_score_on_few_texts_is_no_certainty() -> None:
    low, high = mean_interval(TEXTS, {"all": texts(10, 10)}) or (0, 0)
    assert 0.6 < low < 0.8
    assert high == pytest.approx(1)


def test_slices_of_a_mean_are_worth_their_smallest() -> None:
    """One of 20 texts beside one of 2000 counts half of the mean: the interval of about 80 texts."""
    whole = mean_interval(TEXTS, {"a": texts(16, 20), "b": texts(1600, 2000)})
    assert whole == pytest.approx(wilson(0.8, 4 / (1 / 20 + 1 / 2000)))
    assert mean_interval(TEXTS, {"a": texts(8, 10), "b": texts(8, 10)}) == pytest.approx(wilson(0.8, 20))


@pytest.mark.parametrize("task", [TEXTS, WORDS])
def test_nothing_measured_has_no_interval(task: SequenceClassification | TokenClassification) -> None:
    empty = {"nll": np.zeros(3), "positions": np.zeros(3), "right": np.zeros(3)}
    assert mean_interval(task, {"a": empty}) is None
    assert mean_interval(task, {}) is None
    # A slice without a label takes no part in the mean.
    assert mean_interval(task, {"a": texts(4, 9), "b": empty}) == mean_interval(task, {"a": texts(4, 9)})


def test_words_of_one_text_stand_or_fall_together() -> None:
    """50 texts of 40 words each, all right or all wrong: as unsure as 50 texts, not as 2000 words."""
    one = texts(30, 50)
    sums = {name: 40 * values for name, values in one.items()}
    low, high = mean_interval(WORDS, {"all": sums}) or (0, 0)
    wide = wilson(0.6, 50)
    assert (low, high) == (pytest.approx(wide[0], abs=0.03), pytest.approx(wide[1], abs=0.03))
    assert high - low > 3 * (wilson(0.6, 2000)[1] - wilson(0.6, 2000)[0])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.integers(1, 3))
@settings(max_examples=8, deadline=None)
def test_every_interval_holds_its_score_and_is_the_same_again(values: list[float], slices: int) -> None:
    scores = np.array(values)
    sums = {"answered": np.ones(len(scores)), "f1": scores, "exact_match": scores.round(), "nll": scores}
    sums |= {"positions": np.ones(len(scores)), "right": scores.round()}
    by_slice = {f"s{n}": sums for n in range(slices)}
    low, high = mean_interval(ANSWERS, by_slice) or (1.0, 0.0)
    assert low - 1e-9 <= scores.mean() <= high + 1e-9 or len(scores) < 5
    assert 0 <= low <= high <= 1 + 1e-9
    assert mean_interval(ANSWERS, by_slice) == (low, high)
