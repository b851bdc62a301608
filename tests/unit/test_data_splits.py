"""Splits: exact counts, no text in two splits, whatever the order of the rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.data.splits import SPLITS, SplitPlan, assign, text_groups
from tutelage.errors import DataError

pytestmark = pytest.mark.unit

TEST, VALIDATION, TRAIN = range(3)


def named(result) -> dict[str, int]:
    return {split: int((result.codes == code).sum()) for code, split in enumerate(SPLITS)}


def halves(values: list[tuple[int, int]]):
    return np.array(values, np.uint64).reshape(-1, 2)


def test_groups_are_ranks_of_distinct_digests_over_all_sources():
    big = 2**64 - 1
    first, second = text_groups([halves([(5, 0), (1, big), (5, 0)]), halves([(1, 3), (big, big)])])
    assert first.tolist() == [2, 1, 2]
    assert second.tolist() == [0, 3]


def test_a_source_without_rows_has_no_groups():
    empty, one = text_groups([halves([]), halves([(1, 1)])])
    assert empty.tolist() == []
    assert one.tolist() == [0]


def test_integers_are_rows_and_fractions_are_shares():
    groups = np.random.default_rng(0).permutation(100)
    by_rows, by_share = (
        assign([groups], [SplitPlan("s", test=test, validation=validation)])[0]
        for test, validation in [(20, 7), (0.2, 0.07)]
    )
    assert named(by_rows) == named(by_share) == {"test": 20, "validation": 7, "train": 73}
    assert sorted(groups[by_rows.codes == TEST]) == list(range(20))
    assert groups[by_rows.order].tolist() == list(range(100))


def test_train_is_capped_by_the_first_rows_in_digest_order():
    result = assign([np.arange(50)[::-1].copy()], [SplitPlan("s", 5, 5, train_cap=8)])[0]
    assert named(result) == {"test": 5, "validation": 5, "train": 8}
    assert (49 - result.order).tolist() == list(range(18))
    assert result.overlaps == 0


def test_all_rows_of_a_divided_source_keep_its_split():
    result = assign([np.arange(9)], [SplitPlan("s", 0.5, 0.4, fixed="validation")])[0]
    assert named(result) == {"test": 0, "validation": 9, "train": 0}


def test_a_text_that_one_source_tests_is_not_trained_on_by_another():
    train, test = assign(
        [np.array([0, 1, 2, 2]), np.array([2, 3])],
        [SplitPlan("a", 0, 0, fixed="train"), SplitPlan("b", 0, 0, fixed="test")],
    )
    assert named(train)["train"] == 2
    assert train.overlaps == 2
    assert named(test)["test"] == 2
    assert test.overlaps == 0


def test_counts_are_met_by_other_rows_when_some_are_held_out_elsewhere():
    a, b = assign([np.arange(5), np.arange(20)], [SplitPlan("a", 5, 0, fixed="test"), SplitPlan("b", 3, 4)])
    assert named(b) == {"test": 3, "validation": 4, "train": 11}
    assert b.overlaps == 2
    assert named(a)["test"] == 5


@pytest.mark.parametrize(("test", "validation"), [(5, 5), (11, 0), (0.5, 0.5), (0, 10)])
def test_splits_that_leave_nothing_to_train_on_are_refused(test, validation):
    with pytest.raises(DataError, match=r"data\.sources\.s\.splits: of 10 rows, .* none to train on"):
        assign([np.arange(10)], [SplitPlan("s", test, validation)])


def test_a_divided_source_whose_rows_are_all_held_out_elsewhere_is_refused():
    plans = [SplitPlan("a", 0, 0, fixed="train"), SplitPlan("b", 0, 0, fixed="test")]
    with pytest.raises(DataError, match=r"data\.sources\.a: all 3 rows"):
        assign([np.arange(3), np.arange(3)], plans)


@pytest.mark.parametrize(
    ("wanted", "taken"), [(0, []), (1, [1]), (2, [0, 0]), (3, [0, 0, 1]), (4, [0, 0, 1, 3])]
)
def test_a_text_whose_copies_do_not_all_fit_is_passed_over(wanted, taken):
    groups = np.array([2, 0, 3, 0, 2, 1, 4])
    result = assign([groups], [SplitPlan("s", wanted, 0)])[0]
    assert sorted(groups[result.codes == TEST].tolist()) == taken


sources = st.lists(st.lists(st.integers(0, 80), min_size=20, max_size=60), min_size=1, max_size=4)
share = st.one_of(st.integers(0, 6), st.floats(0, 0.3))


@settings(deadline=None, max_examples=60)
@given(sources, st.lists(st.tuples(share, share), min_size=4, max_size=4), st.randoms())
def test_no_text_is_in_two_splits_and_every_row_is_accounted_for(rows, shares, random):
    groups = [np.array(group, np.int64) for group in rows]
    plans = [SplitPlan(str(i), *shares[i]) for i in range(len(groups))]
    try:
        results = assign(groups, plans)
    except DataError:  # nearly all rows are copies of a few texts
        return
    home: dict[int, int] = {}
    for group, plan, result in zip(groups, plans, results, strict=True):
        for text, code in zip(group.tolist(), result.codes.tolist(), strict=True):
            if code in (TEST, VALIDATION, TRAIN):
                assert home.setdefault(text, code) == code
        assert len(result.order) + result.overlaps == len(group)
        assert (np.diff(result.codes[result.order]) >= 0).all()
        for code, wanted in ((TEST, plan.test), (VALIDATION, plan.validation)):
            limit = wanted if isinstance(wanted, int) else round(wanted * len(group))
            assert (result.codes == code).sum() <= limit
    mixed = [random.sample(range(len(group)), len(group)) for group in groups]
    shuffled = assign([group[order] for group, order in zip(groups, mixed, strict=True)], plans)
    for result, again, order in zip(results, shuffled, mixed, strict=True):
        assert again.codes.tolist() == result.codes[order].tolist()
