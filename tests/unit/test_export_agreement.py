"""Agreement and latency: the arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tutelage.export import agreement, measure

pytestmark = pytest.mark.unit


def test_equal_logits_agree_in_everything() -> None:
    logits = np.array([[0.1, 0.9], [2.0, -1.0]], np.float32)
    found = agreement(logits, logits)
    assert (found.share_same_label, found.max_abs_diff, found.mean_kl, found.examples) == (1.0, 0.0, 0.0, 2)


def test_labels_and_differences_are_counted() -> None:
    a = np.array([[1.0, 0.0], [0.0, 1.0], [3.0, 0.0], [0.0, 3.0]])
    b = np.array([[1.0, 0.5], [0.6, 0.5], [3.0, 0.0], [0.0, 3.0]])
    found = agreement(a, b)
    assert (found.share_same_label, found.max_abs_diff) == (0.75, 0.6)


def test_kl_is_that_of_the_formula() -> None:
    p, q = np.array([0.8, 0.2]), np.array([0.5, 0.5])
    found = agreement(np.log(p)[None] + 7, np.log(q)[None] - 3)
    assert found.mean_kl == pytest.approx(0.8 * math.log(1.6) + 0.2 * math.log(0.4))


def test_large_logits_do_not_overflow() -> None:
    found = agreement(np.array([[1e4, 0.0]]), np.array([[1e4, 1.0]]))
    assert found.mean_kl == pytest.approx(0.0, abs=1e-12)


def test_a_logit_that_is_not_finite_never_agrees() -> None:
    a = np.array([[1.0, 0.0], [1.0, 0.0]])
    b = np.array([[np.nan, 0.0], [1.0, 0.0]])
    found = agreement(a, b)
    assert (found.share_same_label, found.max_abs_diff, found.mean_kl) == (0.5, math.inf, math.inf)
    assert agreement(b, b).share_same_label == 0.5


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.zeros((0, 2)), np.zeros((0, 2))),
        (np.zeros((3, 2)), np.zeros((2, 2))),
        (np.zeros(3), np.zeros(3)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(a: np.ndarray, b: np.ndarray) -> None:
    with pytest.raises(ValueError, match="both must be the same N x C"):
        agreement(a, b)


class Ticking:
    """Answers; each of its calls moves its clock by the next of `steps` seconds."""

    def __init__(self, *steps: float) -> None:
        self.now, self.steps, self.shapes = 0.0, iter(steps), []

    def clock(self) -> float:
        return self.now

    def logits(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        self.shapes.append(ids.shape)
        assert mask.all()
        assert ids.max() < 30
        self.now += next(self.steps)
        return np.zeros((len(ids), 2), np.float32)


def test_the_first_call_is_not_counted() -> None:
    session = Ticking(9.0, 0.010, 0.020, 0.030)
    found = measure(session, 4, 16, 30, 3, clock=session.clock)
    assert session.shapes == [(4, 16)] * 4
    assert (found.p50_ms, found.p95_ms) == (pytest.approx(20.0), pytest.approx(29.0))
    assert found.texts_per_s == pytest.approx(4 * 3 / 0.060)


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"tokens": 0}, {"vocab": 0}, {"runs": 0}])
def test_nothing_to_measure_is_refused(wrong: dict[str, int]) -> None:
    numbers = {"batch": 1, "tokens": 8, "vocab": 30, "runs": 1} | wrong
    with pytest.raises(ValueError, match="must all be 1 or more"):
        measure(Ticking(0.0, 0.0), **numbers)
