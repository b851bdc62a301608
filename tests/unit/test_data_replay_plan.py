"""New rows once an epoch, replayed ones in the share that was asked for. A position is a row of the plan."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.data.batches import BatchPlan, ReplayPlan

pytestmark = pytest.mark.unit


def plan(new: int, old: int, share: float, *, batch_size: int = 8, seed: int = 3) -> ReplayPlan:
    """Rows in a random order; lengths from 1 to 30."""
    rng = np.random.default_rng(seed)
    replayed = rng.permutation(np.arange(new + old) >= new)
    lengths = rng.integers(1, 30, new + old).astype(np.int32)
    return ReplayPlan(lengths, batch_size, seed, replayed, share)


def flags(new: int, old: int, seed: int = 3) -> Any:
    """Which rows of `plan` are replayed."""
    return np.random.default_rng(seed).permutation(np.arange(new + old) >= new)


def drawn(one: BatchPlan, epoch: int = 0) -> Any:
    return np.concatenate(one.epoch(epoch))


@given(
    new=st.integers(1, 60), old=st.integers(0, 60), share=st.floats(0, 0.9), batch_size=st.integers(1, 20),
    epoch=st.integers(0, 3),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_an_epoch_holds_each_new_row_once_and_replayed_ones_in_the_share_asked(
    new: int, old: int, share: float, batch_size: int, epoch: int
) -> None:
    one, replayed = plan(new, old, share, batch_size=batch_size), flags(new, old)
    batches = one.epoch(epoch)
    rows = np.concatenate(batches)
    assert rows.dtype == np.int64
    assert sorted(rows[~replayed[rows]]) == np.flatnonzero(~replayed).tolist()
    extra = rows[replayed[rows]]
    if old:
        # The share is met as closely as whole rows allow.
        assert abs(len(extra) - share * len(rows)) <= 0.5 + 1e-6
    else:
        assert len(extra) == 0
    times = Counter(extra.tolist())
    counts = [times[row] for row in np.flatnonzero(replayed).tolist()]
    if counts:
        assert max(counts) - min(counts) <= 1
    if len(extra) <= old:
        assert max(counts, default=0) <= 1
    assert len(batches) == one.steps_per_epoch
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert 1 <= len(batches[-1]) <= batch_size


def test_a_share_of_a_half_gives_as_many_old_as_new() -> None:
    rows = drawn(plan(30, 200, 0.5))
    assert len(rows) == 60
    assert int(flags(30, 200)[rows].sum()) == 30


def test_a_share_of_nine_tenths_gives_nine_times_as_many() -> None:
    rows = drawn(plan(10, 20, 0.9))
    assert len(rows) == 100
    times = Counter(rows[flags(10, 20)[rows]].tolist())
    assert sorted(times.values()) == [4] * 10 + [5] * 10  # 90 draws from 20 rows


def test_other_epochs_draw_other_rows_and_all_come_up_in_time() -> None:
    """10 draws of 40 rows an epoch: after 40 epochs nearly surely each was there."""
    one, replayed = plan(10, 40, 0.5), flags(10, 40)
    sets = [set(rows[replayed[rows]].tolist()) for rows in (drawn(one, e) for e in range(40))]
    assert len(sets[0]) == len(sets[1]) == 10
    assert sets[0] != sets[1]
    assert set.union(*sets) == set(np.flatnonzero(replayed).tolist())


def test_an_epoch_is_a_function_of_seed_and_number_alone() -> None:
    one, other = plan(20, 30, 0.4), plan(20, 30, 0.4)
    other.epoch(0)  # looked at before, or not: no state is kept
    for e in (2, 0, 1):
        assert [batch.tolist() for batch in one.epoch(e)] == [batch.tolist() for batch in other.epoch(e)]
    assert drawn(one, 0).tolist() != drawn(one, 1).tolist()
    lengths, replayed = one.lengths, flags(20, 30)
    again = ReplayPlan(lengths, 8, 4, replayed, 0.4)
    assert drawn(again).tolist() != drawn(one).tolist()


@pytest.mark.parametrize("old", [0, 25])
def test_without_replay_an_epoch_is_the_new_rows_alone(old: int) -> None:
    one, replayed = plan(21, old, 0.0), flags(21, old)
    assert sorted(drawn(one)) == np.flatnonzero(~replayed).tolist()
    assert one.steps_per_epoch == 3


def test_a_share_with_nothing_to_replay_asks_for_nothing() -> None:
    one = plan(21, 0, 0.5)
    assert sorted(drawn(one)) == list(range(21))
    assert one.steps_per_epoch == 3


def test_old_and_new_stand_together_in_batches() -> None:
    """200 rows in batches of 20, half of them replayed: no batch is of one kind."""
    one, replayed = plan(100, 100, 0.5, batch_size=20), flags(100, 100)
    shares = [replayed[batch].mean() for e in range(5) for batch in one.epoch(e)]
    assert min(shares) > 0.1
    assert max(shares) < 0.9


def test_rows_of_like_length_stand_together() -> None:
    """Less padding than batches drawn at random have."""
    one = plan(200, 200, 0.5, batch_size=20)
    spread = np.mean([np.ptp(one.lengths[batch]) for batch in one.epoch(0)])
    rng = np.random.default_rng(0)
    at_random = np.mean([np.ptp(rng.choice(one.lengths, 20)) for _ in range(50)])
    assert spread < 0.3 * at_random
