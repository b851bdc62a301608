"""What tells the kinds of replay buffers apart."""

from __future__ import annotations

import numpy as np
import pytest

from tests.unit.replay_samples import filled, item, plain, size_of

pytestmark = pytest.mark.unit


def test_every_example_has_the_same_chance_in_a_reservoir() -> None:
    """Chi-square over 20 places in the stream, 300 seeds, 10 of 100 kept: below the 99.99% point of 19."""
    items = plain(100)
    room = 10 * size_of(items[0])
    kept = np.zeros(20)
    for seed in range(300):
        held = {one.id for one in filled(items, room, seed=seed)}
        assert len(held) == 10
        kept += [sum(one.id in held for one in items[at : at + 5]) for at in range(0, 100, 5)]
    assert kept.sum() == 3000
    assert ((kept - 150) ** 2 / 150).sum() < 50.8


def test_groups_get_even_shares_and_what_small_ones_leave_over() -> None:
    counts = {"a": 3, "b": 500, "c": 40, "d": 500}
    items = [
        item(1000 * at + number, "x" * 16, label=label)
        for at, (label, count) in enumerate(counts.items())
        for number in range(count)
    ]
    size = size_of(items[0])
    assert {size_of(one) for one in items} <= {size}
    buffer = filled(items, 83 * size, "balanced")
    assert {label: n for (_, label), n in buffer.counts().items()} == {"a": 3, "b": 26, "c": 26, "d": 26}
    buffer = filled(items, 203 * size, "balanced")
    assert {label: n for (_, label), n in buffer.counts().items()} == {"a": 3, "b": 80, "c": 40, "d": 80}
    by_chance = filled(items, 83 * size).counts()
    assert by_chance["books", "b"] + by_chance["books", "d"] > 70


def test_a_group_that_comes_later_gets_its_share_from_the_others() -> None:
    buffer = filled([item(n, "x" * 16, label="old") for n in range(1000, 1200)], 20_000, "balanced")
    alone = len(buffer)
    buffer.add(item(n, "x" * 16, label="new") for n in range(2000, 2200))
    assert abs(buffer.counts()["books", "new"] - alone / 2) <= 1
    assert abs(buffer.counts()["books", "old"] - alone / 2) <= 1


def test_a_larger_loss_is_kept_more_likely_as_the_formula_says() -> None:
    """One of two items with losses 3 and 1 stays: the first one in 3 of 4 cases."""
    pair = [item(1, loss=3.0), item(2, loss=1.0)]
    size = size_of(pair[0])
    won = sum(next(iter(filled(pair, size, "loss-aware", seed))).loss == 3.0 for seed in range(2000))
    assert abs(won / 2000 - 0.75) < 0.03
    unmeasured = [item(1, loss=3.0), item(2)]
    won = sum(next(iter(filled(unmeasured, size, "loss-aware", seed))).loss == 3.0 for seed in range(2000))
    assert abs(won / 2000 - 0.75) < 0.03


def test_without_room_for_all_examples_without_loss_go_first() -> None:
    items = [item(number, "x" * 16, loss=float(number % 2)) for number in range(100)]
    buffer = filled(items, 50 * size_of(items[0]), "loss-aware")
    assert {one.loss for one in buffer} == {1.0}
    assert len(filled(items[:20:2], 10**6, "loss-aware")) == 10
