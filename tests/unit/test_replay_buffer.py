"""What a replay buffer holds, of each kind. Sizes are in bytes."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.unit.replay_samples import KINDS, filled, item, mixed, plain, size_of
from tutelage.continual.replay import Buffer, Item, KindName
from tutelage.errors import ConfigError, DataError

pytestmark = pytest.mark.unit
every_kind = pytest.mark.parametrize("kind", KINDS)


# What every kind does


@every_kind
def test_the_content_follows_from_the_set_whatever_order_portions_and_buffers_it_came_by(
    kind: KindName,
) -> None:
    """Random splits over 1 to 5 buffers, parts of them in two buffers, in portions, at many budgets."""
    rng = np.random.default_rng(3)
    items = mixed(300)
    for budget in [150, 400, 1_500, 5_000, 20_000, 45_000, 10**6] * 3:
        whole = filled(items, budget, kind)
        buffers = [Buffer(budget, kind, 7) for _ in range(rng.integers(1, 6))]
        order = [items[at] for at in rng.permutation(len(items))]
        for portion in np.array_split(np.arange(len(order)), 10):
            twice = rng.random() < 0.3 and all(size_of(order[at]) <= budget for at in portion)
            for buffer in rng.choice(np.array(buffers), 1 + (twice and len(buffers) > 1), replace=False):
                buffer.add([order[at] for at in portion])
        first, *others = (buffers[at] for at in rng.permutation(len(buffers)))
        for other in others:
            first.merge(other)
        assert list(first) == list(whole)
        assert first.state() == whole.state()
        assert first.digest() == whole.digest()


@every_kind
def test_a_merge_is_as_exact_where_one_buffer_let_almost_all_go(kind: KindName) -> None:
    """A large item that one buffer let go must not be overtaken by a small one of the other."""
    items = mixed(200)
    for budget in (300, 1_000, 3_000):
        for cut in (1, 5, 195, 199):
            merged = filled(items[:cut], budget, kind)
            merged.merge(filled(items[cut:], budget, kind))
            assert list(merged) == list(filled(items, budget, kind))


@every_kind
def test_the_budget_is_never_exceeded_and_is_used(kind: KindName) -> None:
    items = mixed(400)
    largest = max(map(size_of, items))
    for budget in (1, 100, 777, 4_000, 30_000):
        buffer = Buffer(budget, kind)
        for start in range(0, len(items), 7):
            buffer.add(items[start : start + 7])
            assert buffer.bytes == sum(map(size_of, buffer)) <= budget
        groups = 9 if kind == "balanced" else 1
        assert buffer.bytes > budget - groups * (largest + 1)


@every_kind
def test_an_item_larger_than_the_budget_is_counted_and_left_out(kind: KindName) -> None:
    size = size_of(item(1))
    buffer = filled([item(1), item(2, "x" * 1000)], size, kind)
    assert [one.id for one in buffer] == [item(1).id]
    assert buffer.refused == 1
    assert filled([item(1)], size - 1, kind).refused == 1


@every_kind
def test_the_newest_values_of_an_id_win_and_count_once(kind: KindName) -> None:
    buffer = filled([item(1), item(2), item(1, "newer", label="bad", slice="films")], 10_000, kind)
    assert len(buffer) == 2
    assert buffer.counts() == {("books", "good"): 1, ("films", "bad"): 1}
    other = filled([item(2, "newest")], 10_000, kind)
    buffer.merge(other)
    assert sorted(one.columns["text"] for one in buffer) == ["newer", "newest"]
    assert buffer.bytes == sum(map(size_of, buffer))
    buffer.add([item(1, "x" * 20_000)])
    assert [one.id for one in buffer] == [item(2).id]


@every_kind
def test_an_example_that_is_updated_again_and_again_takes_its_room_once(kind: KindName) -> None:
    buffer = Buffer(5_000, kind)
    for step in range(300):
        buffer.add(replace(one, loss=float((step * number) % 11)) for number, one in enumerate(plain(8)))
    assert len(buffer) == 8
    buffer.add(plain(200))
    assert buffer.bytes <= 5_000
    assert len(buffer) == 5_000 // size_of(plain(1)[0])


def test_a_loss_that_falls_does_not_drop_the_example_while_there_is_room() -> None:
    """Otherwise a model that learns its replayed examples would empty the buffer."""
    buffer = filled([replace(one, loss=5.0) for one in plain(100)], 2_000, "loss-aware")
    held = [one.id for one in buffer]
    buffer.add([replace(one, loss=0.01) for one in buffer])
    assert [one.id for one in buffer] == held
    buffer.merge(filled([item(1000, loss=5.0)], 2_000, "loss-aware"))
    assert len(buffer) == len(held)
    buffer.add([replace(one, loss=5.0) for one in plain(400)[100:]])
    assert len({one.id for one in buffer} & set(held)) < len(held)


def test_an_example_whose_loss_rose_is_judged_by_the_new_loss_alone() -> None:
    """Nothing was let go before the update, so the content is that of the newest values."""
    rng = np.random.default_rng(4)
    first = [replace(one, loss=float(rng.exponential())) for one in plain(10)]
    risen = [replace(one, loss=9.0) for one in first[::2]]
    rest = [replace(one, loss=1.0) for one in plain(60)[10:]]
    buffer = filled(first, 2_000, "loss-aware")
    buffer.add(risen)
    buffer.add(rest)
    assert list(buffer) == list(filled([*first[1::2], *risen, *rest], 2_000, "loss-aware"))


@every_kind
def test_a_delete_says_what_it_found_and_what_is_left(kind: KindName) -> None:
    buffer = filled(mixed(50), 10**6, kind)
    before = buffer.digest()
    gone = [item(3).id, item(4).id]
    proof = buffer.delete([*gone, gone[0], "unknown"])
    assert proof.asked == (*sorted(gone), "unknown")
    assert proof.found == tuple(sorted(gone))
    assert proof.left == len(buffer) == 48
    assert proof.digest == buffer.digest() != before
    assert not {one.id for one in buffer} & set(gone)
    assert proof.digest == filled([one for one in mixed(50) if one.id not in gone], 10**6, kind).digest()
    assert buffer.delete(gone).found == ()


@every_kind
def test_what_comes_after_a_delete_has_the_chance_that_others_had(kind: KindName) -> None:
    """The free room does not go to the next that comes, unless nothing is left to compare it with."""
    items = plain(2000)
    buffer = filled(items[:1000], 2_000, kind)
    first = [one.id for one in buffer]
    buffer.delete(first[: len(first) // 2])
    buffer.add(items[1000:1010])
    expected = {one.id for one in filled(items[:1010], 2_000, kind)} - set(first[: len(first) // 2])
    assert {one.id for one in buffer} >= expected
    assert len({one.id for one in buffer} - set(first)) <= 2
    buffer.delete([one.id for one in buffer])
    buffer.add(items[1010:1013])
    assert len(buffer) == 3


def test_a_delete_in_one_group_leaves_the_bounds_of_others() -> None:
    """Also of a group that let all go because its only item is larger than its share."""
    large = item(1, "x" * 300, slice="films")
    buffer = filled([large, *(item(n, "x" * 9) for n in (2, 3, 4, 5))], 600, "balanced")
    assert buffer.counts() == {("books", "good"): 2}
    bounds = buffer.state()["bounds"]
    assert [bound[0] for bound in bounds] == ["books", "films"]
    held = [one.id for one in buffer]
    buffer.delete(held[:1])
    assert buffer.state()["bounds"] == bounds
    buffer.delete(held)
    assert buffer.state()["bounds"] == bounds[1:]


@every_kind
def test_order_and_samples_are_those_of_the_content(kind: KindName) -> None:
    items = mixed(100)
    one, two = filled(items, 8_000, kind), filled(items[::-1], 8_000, kind)
    assert [(i.slice, i.key) for i in one] == sorted((i.slice, i.key) for i in one)
    drawn = one.sample(10, np.random.default_rng(5))
    assert drawn == two.sample(10, np.random.default_rng(5))
    assert len({i.id for i in drawn}) == 10
    assert drawn != one.sample(10, np.random.default_rng(6))
    everything = one.sample(10**6, np.random.default_rng(5))
    assert sorted(i.id for i in everything) == sorted(i.id for i in one)
    assert Buffer(100, kind).sample(3, np.random.default_rng(0)) == []


@every_kind
def test_groups_and_counts_are_by_slice_and_label(kind: KindName) -> None:
    buffer = filled(mixed(100), 10**6, kind)
    counts = buffer.counts()
    assert list(counts)[:4] == [("books", None), ("books", "bad"), ("books", "good"), ("films", None)]
    assert sum(counts.values()) == len(buffer) == 100
    groups = buffer.groups()
    assert {group: len(items) for group, items in groups.items()} == counts
    assert all((i.slice, i.label) == group for group, items in groups.items() for i in items)


@every_kind
def test_a_buffer_travels_between_processes(kind: KindName) -> None:
    buffer = filled(mixed(100), 3_000, kind)
    twin = pickle.loads(pickle.dumps(buffer))  # noqa: S301
    for one in (buffer, twin):
        one.add(mixed(200)[100:])
    assert twin.digest() == buffer.digest()


def test_a_buffer_does_not_change_what_it_was_given() -> None:
    mine = item(1, logits=[0.1])
    one, two = filled([mine], 1_000, seed=1), filled([mine], 1_000, seed=2)
    assert mine.key == 0
    assert mine.logits == [0.1]
    assert next(iter(one)).key != next(iter(two)).key


# What is counted, and what is refused


def test_the_bytes_of_an_item_are_its_values_and_a_fixed_part() -> None:
    def size(**fields: Any) -> int:
        return size_of(Item(**{"digest": bytes(16), "slice": "s", "columns": {}, "id": "id", **fields}))

    assert size() == 64 + 2 + 1
    assert size(label="good", logits_by="v1") - size() == 6
    assert size(logits=[1, 2, 3]) - size() == 12
    assert size(columns={"text": "aä"}) - size() == 3 + 4
    assert size(columns={"tags": ["a", "bc"], "n": 1, "none": None}) - size() == 4 + (1 + 4) + (2 + 4) + 8
    assert size(columns={"answers": {"start": [1, 2], "ok": True, "raw": b"12"}}) - size() == 20 + 8 + 6


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"digest": b"short"}, "5 bytes"),
        ({"slice": "../up"}, "'../up'.* is no name"),
        ({"slice": ""}, "is no name"),
        ({"columns": {"label": "x"}}, "'label'.* reserved"),
        ({"columns": {"_id": "x"}}, "'_id'.* reserved"),
        ({"columns": {"x": object()}}, "type object"),
        ({"columns": {"x": {}}}, "type dict"),
        ({"columns": {"x": {1: 2}}}, "type dict"),
        ({"columns": {"x": 2**63}}, "type int"),
        ({"columns": {"text": "\ud800"}}, "not Unicode"),
        ({"label": "\ud800"}, "not Unicode"),
        ({"loss": -1.0}, "loss -1.0"),
        ({"loss": math.nan}, "loss nan"),
        ({"logits": [math.inf]}, "finite"),
        ({"logits": [[1.0]]}, "one list"),
    ],
)
def test_an_item_that_no_file_could_hold_is_refused_and_those_before_it_stay(
    fields: dict[str, Any], said: str
) -> None:
    buffer = Buffer(10_000)
    with pytest.raises(DataError, match=said) as caught:
        buffer.add([item(1), item(2, **fields)])
    assert caught.value.fix
    assert [one.id for one in buffer] == [item(1).id]


@pytest.mark.parametrize("budget", [0, -5])
def test_a_budget_that_holds_nothing_is_refused(budget: int) -> None:
    with pytest.raises(ConfigError, match=f"{budget} bytes"):
        Buffer(budget)


@pytest.mark.parametrize("other", [Buffer(99), Buffer(100, "balanced"), Buffer(100, seed=1)])
def test_unlike_buffers_are_not_merged(other: Buffer) -> None:
    with pytest.raises(ConfigError, match="cannot be merged"):
        Buffer(100).merge(other)
