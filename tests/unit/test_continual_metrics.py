"""Numbers of a stream of trainings, each computed by hand; the verdict on what was forgotten and gained."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tutelage.config.update import ForgettingGate
from tutelage.continual.gate import judge_forgetting
from tutelage.continual.metrics import forgotten, matrix_of, summary
from tutelage.continual.state import Learned

pytestmark = pytest.mark.unit

NAN = math.nan
R = [
    [0.9, 0.5, 0.2],
    [0.95, 0.8, 0.4],
    [0.6, 0.7, 1.0],
]
"""Training 2 improves slice 0 first; training 3 ruins it."""


def test_a_matrix_has_the_numbers_computed_by_hand() -> None:
    found = summary(R, untrained=[0.5, 0.4, 0.3])
    assert found.accuracy == pytest.approx((0.6 + 0.7 + 1.0) / 3)
    assert found.backward == pytest.approx(((0.6 - 0.9) + (0.7 - 0.8)) / 2)
    assert found.forward == pytest.approx(((0.5 - 0.4) + (0.4 - 0.3)) / 2)
    # Of slice 0 the best was reached after training 2.
    assert found.forgetting == pytest.approx(((0.95 - 0.6) + (0.8 - 0.7)) / 2)
    assert found.minimum == pytest.approx((min(0.95, 0.6) + 0.7) / 2)


def test_without_forgetting_the_numbers_say_so() -> None:
    found = summary([[0.5, 0.0], [0.6, 0.9]])
    assert found.backward == pytest.approx(0.1)
    assert found.forgetting == pytest.approx(-0.1)
    assert found.accuracy == pytest.approx(0.75)


def test_the_lowest_point_counts_although_it_was_recovered() -> None:
    assert summary([[0.9, 0, 0], [0.1, 0.8, 0], [0.9, 0.8, 0.7]]).minimum == pytest.approx((0.1 + 0.8) / 2)


def test_one_training_has_an_accuracy_and_nothing_to_forget() -> None:
    found = summary([[0.7]], untrained=[0.5])
    assert found.accuracy == 0.7
    assert all(
        math.isnan(value) for value in (found.backward, found.forward, found.forgetting, found.minimum)
    )


def test_what_is_still_to_come_may_be_unmeasured() -> None:
    """Lower triangular: only the forward transfer is missing, with or without a start to compare with."""
    lower = [[0.9, NAN, NAN], [0.95, 0.8, NAN], [0.6, 0.7, 1.0]]
    for found in (summary(lower), summary(lower, untrained=[0.5, 0.4, 0.3])):
        assert math.isnan(found.forward)
        assert found.forgetting == summary(R).forgetting
        assert found.backward == summary(R).backward
        assert found.minimum == summary(R).minimum
    half = [[0.9, 0.5, NAN], [0.95, 0.8, NAN], [0.6, 0.7, 1.0]]
    assert summary(half, untrained=[0.5, 0.4, 0.3]).forward == pytest.approx(0.1)


@pytest.mark.parametrize("matrix", [[], [[0.5, 0.5]], [[0.5], [0.5]], [[0.5, 0.5], [0.5]]])
def test_a_matrix_that_is_not_square_is_refused(matrix: Any) -> None:
    with pytest.raises(ValueError, match="square"):
        summary(matrix)


def test_what_a_training_brought_together_is_one_slice_by_its_mean() -> None:
    trainings = [
        Learned("one", ["books", "shop"], {"books": 0.9, "shop": 0.7}),
        Learned("two", ["tweets"], {"books": 0.8, "shop": 0.6, "tweets": 0.5}),
    ]
    found = matrix_of(trainings)
    assert found[0][0] == pytest.approx(0.8)
    assert math.isnan(found[0][1])  # nobody was tested on tweets before they came
    assert found[1] == pytest.approx([0.7, 0.5])
    assert summary(found).forgetting == pytest.approx(0.1)


def test_what_was_known_of_a_slice_before_its_training_is_forward_transfer() -> None:
    first = Learned("one", ["books"], {"books": 0.9})
    second = Learned("two", ["tweets"], {"books": 0.8, "tweets": 0.7}, before={"tweets": 0.6})
    found = matrix_of([first, second])
    assert found[0] == pytest.approx([0.9, 0.6])
    assert summary(found, [0.5, 0.5]).forward == pytest.approx(0.1)


def test_a_slice_that_is_not_measured_is_left_out_of_its_mean() -> None:
    assert matrix_of([Learned("one", ["books", "raw"], {"books": 0.9})]) == [[0.9]]
    ((unknown,),) = matrix_of([Learned("one", ["raw"], {"books": 0.9})])
    assert math.isnan(unknown)
    assert matrix_of([]) == []


def test_forgotten_is_the_fall_of_the_slices_that_both_have() -> None:
    found = forgotten({"a": 0.9, "b": 0.5, "gone": 0.1}, {"a": 0.7, "b": 0.6, "new": 1.0})
    assert found == pytest.approx({"a": 0.2, "b": -0.1})


# The verdict

BEFORE = {"books": 0.9, "shop": 0.8, "tweets": 0.5}


def judged(after: dict[str, float], new: list[str] | None = None, **limits: float) -> Any:
    gate = ForgettingGate(**{"max_forgetting": 0.02, **limits})
    return judge_forgetting(gate, BEFORE, after, ["tweets"] if new is None else new)


def test_a_candidate_that_keeps_the_old_and_learns_the_new_passes() -> None:
    found = judged({"books": 0.89, "shop": 0.85, "tweets": 0.7})
    assert found.passed
    assert found.problems == ()
    assert found.fix == ""
    assert found.forgotten == pytest.approx({"books": 0.01, "shop": -0.05})
    assert found.gained == pytest.approx(0.2)
    assert found.words == "new data +0.200, worst earlier slice 'books' -0.010"


def test_one_slice_is_enough_to_fail_whatever_the_mean() -> None:
    found = judged({"books": 0.99, "shop": 0.7, "tweets": 1.0})
    assert not found.passed
    (problem,) = found.problems
    assert problem == "'shop' fell from 0.800 to 0.700, update.gate.max_forgetting allows 0.02"
    assert "update.replay.share" in found.fix


@pytest.mark.parametrize(("after", "passed"), [(0.8 - 0.02, True), (0.8 - 0.0201, False)])
def test_a_fall_of_exactly_the_limit_is_allowed(after: float, passed: bool) -> None:
    assert judged({"books": 0.9, "shop": after, "tweets": 0.5}).passed is passed


def test_without_any_forgetting_allowed_an_equal_candidate_passes() -> None:
    assert judged(BEFORE, max_forgetting=0.0).passed
    assert not judged({**BEFORE, "shop": 0.799}, max_forgetting=0.0).passed


@pytest.mark.parametrize(
    ("gain", "asked", "passed"), [(0.1, 0.1, True), (0.099, 0.1, False), (-0.01, -0.01, True), (-0.01, 0, 0)]
)
def test_the_new_data_must_gain_what_is_asked_for(gain: float, asked: float, passed: bool) -> None:
    found = judged({**BEFORE, "tweets": 0.5 + gain}, min_gain=asked)
    assert found.passed is bool(passed)
    if not passed:
        (problem,) = found.problems
        assert problem.startswith(f"the new data gained {gain:+.3f}")
        assert "update.regulariser.strength" in found.fix


def test_the_gain_is_the_mean_over_new_slices() -> None:
    found = judged({"books": 0.9, "shop": 0.6, "tweets": 0.9}, new=["shop", "tweets"], min_gain=0.1)
    assert found.gained == pytest.approx(0.1)
    assert found.passed


def test_a_new_slice_that_got_worse_is_not_forgotten_but_not_gained() -> None:
    found = judged({**BEFORE, "tweets": 0.1})
    assert found.forgotten == {"books": 0.0, "shop": 0.0}
    assert found.gained == pytest.approx(-0.4)
    assert [problem.split()[0] for problem in found.problems] == ["the"]


def test_new_data_without_labels_is_judged_by_what_is_forgotten_alone() -> None:
    found = judged({"books": 0.9, "shop": 0.8}, new=["raw"], min_gain=0.5)
    assert found.passed
    assert found.gained is None
    assert found.words.startswith("the new data has no labels to measure")
    assert not judged({"books": 0.5, "shop": 0.8}, new=["raw"]).passed


def test_where_no_earlier_slice_is_held_out_the_gate_says_so() -> None:
    found = judge_forgetting(ForgettingGate(), {"tweets": 0.5}, {"tweets": 0.6}, ["tweets"])
    assert found.passed
    assert found.forgotten == {}
    assert found.words == "new data +0.100, no earlier slice has held-out rows to measure"


def test_all_problems_are_named() -> None:
    found = judged({"books": 0.1, "shop": 0.1, "tweets": 0.1})
    assert len(found.problems) == 3


def test_a_slice_without_labels_counts_in_no_figure() -> None:
    nothing = math.nan
    found = summary([[0.9, nothing, 0.1], [0.7, nothing, 0.2], [0.8, nothing, 0.9]])
    assert found.accuracy == pytest.approx(0.85)
    assert found.backward == pytest.approx(-0.1)
    assert found.forgetting == pytest.approx(0.1)
    assert found.minimum == pytest.approx(0.7)
    bare = summary([[nothing]])
    assert math.isnan(bare.accuracy)
