"""Batches and shards: every example once, the same for every number of workers."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.data.batches import CHUNK_BATCHES, BatchPlan, shard

pytestmark = pytest.mark.unit

lengths = st.lists(st.integers(1, 128), max_size=400).map(lambda values: np.array(values, np.int32))


@settings(deadline=None)
@given(lengths, st.integers(1, 40), st.integers(0, 2**31 - 1), st.integers(0, 5))
def test_an_epoch_holds_every_position_once_and_only_the_last_batch_is_short(sizes, batch_size, seed, epoch):
    plan = BatchPlan(sizes, batch_size, seed)
    batches = plan.epoch(epoch)
    assert len(batches) == plan.steps_per_epoch
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert all(1 <= len(batch) <= batch_size for batch in batches)
    assert sorted(np.concatenate([np.empty(0, np.int64), *batches])) == list(range(len(sizes)))


@settings(deadline=None)
@given(lengths, st.integers(1, 40), st.integers(0, 2**31 - 1), st.integers(0, 5))
def test_an_epoch_is_a_function_of_its_arguments(sizes, batch_size, seed, epoch):
    once, again = (BatchPlan(sizes.copy(), batch_size, seed).epoch(epoch) for _ in range(2))
    assert [batch.tolist() for batch in once] == [batch.tolist() for batch in again]


def test_epochs_and_seeds_give_different_orders():
    plan = BatchPlan(np.arange(1, 201, dtype=np.int32), 8, seed=3)
    first = np.concatenate(plan.epoch(0)).tolist()
    assert first != np.concatenate(plan.epoch(1)).tolist()
    assert first != np.concatenate(BatchPlan(plan.lengths, 8, seed=4).epoch(0)).tolist()


def test_lengths_within_a_batch_are_close():
    """Sorting within chunks cuts the padding of random lengths to a fifth of that of random batches."""
    sizes = np.random.default_rng(0).integers(1, 100, 3200).astype(np.int32)
    padding = [(sizes[b].max() - sizes[b]).mean() for b in BatchPlan(sizes, 32, 0).epoch(0)]
    unsorted = [(sizes[i : i + 32].max() - sizes[i : i + 32]).mean() for i in range(0, 3200, 32)]
    assert np.mean(padding) < np.mean(unsorted) / 5


def test_sorting_stays_within_a_chunk():
    """With more than one chunk, batches of similar length come from different chunks, so order is random."""
    sizes = np.arange(2 * CHUNK_BATCHES * 4, dtype=np.int32)
    batches = BatchPlan(sizes, 4, 0).epoch(0)
    ordered = sorted(batches, key=lambda batch: int(batch.min()))
    assert any(a.max() > b.min() for a, b in pairwise(ordered))


def test_the_first_batches_of_a_known_plan_stay_as_they_are():
    """A checkpoint resumes in the middle of an epoch, so the order may not change between versions."""
    plan = BatchPlan(np.array([5, 3, 8, 1, 9, 2, 7, 4, 6, 10], np.int32), 4, seed=7)
    assert [batch.tolist() for batch in plan.epoch(0)] == [[3, 5, 1, 7], [0, 8, 6, 2], [4, 9]]


@pytest.mark.parametrize(("sizes", "batch_size"), [(np.ones(3, np.int32), 0), (np.ones((2, 2), np.int32), 1)])
def test_impossible_plans_are_refused(sizes, batch_size):
    with pytest.raises(ValueError, match=r"batch_size is 0|must be N"):
        BatchPlan(sizes, batch_size, 0)


@settings(deadline=None)
@given(st.integers(1, 5), st.integers(1, 6), st.integers(1, 4), st.data())
def test_shards_cover_a_batch_once_in_order_with_equal_counts(workers, micro_batch, accumulation, data):
    batch_size = workers * micro_batch * accumulation
    batch = np.arange(data.draw(st.integers(0, batch_size)), dtype=np.int64) * 3
    parts = [shard(batch, workers, rank, micro_batch, batch_size) for rank in range(workers)]
    assert {len(part) for part in parts} == {accumulation}
    assert all(len(micro) <= micro_batch for part in parts for micro in part)
    assert np.concatenate([micro for part in parts for micro in part]).tolist() == batch.tolist()
    loads = [sum(map(len, part)) for part in parts]
    assert max(loads) - min(loads) <= 1


def test_a_full_batch_needs_no_batch_size():
    parts = shard(np.arange(8), workers=2, rank=1, micro_batch=2)
    assert [part.tolist() for part in parts] == [[4, 5], [6, 7]]


def test_the_gradient_is_that_of_the_whole_batch_for_any_split():
    """Sum over micro-batches, divided by the global batch size, equals the mean over the batch."""
    values = np.random.default_rng(1).normal(size=50)
    batch = np.arange(11)
    for workers, micro_batch in [(1, 16), (2, 8), (2, 4), (4, 2), (1, 1)]:
        parts = [m for rank in range(workers) for m in shard(batch, workers, rank, micro_batch, 16)]
        assert sum(values[m].sum() for m in parts) / len(batch) == pytest.approx(values[batch].mean())


@pytest.mark.parametrize(
    ("workers", "rank", "micro_batch", "batch_size"),
    [(2, 2, 1, 4), (2, -1, 1, 4), (2, 0, 0, 4), (2, 0, 3, 8), (1, 0, 2, 2)],
)
def test_shards_that_do_not_fit_are_refused(workers, rank, micro_batch, batch_size):
    with pytest.raises(ValueError, match=r"cannot be|must divide"):
        shard(np.arange(4), workers, rank, micro_batch, batch_size)
