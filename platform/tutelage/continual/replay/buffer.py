"""A buffer of examples of earlier data within a budget of bytes."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from blake3 import blake3

from tutelage.continual.replay.item import Item, key_of, measure
from tutelage.continual.replay.kinds import KINDS, Group, KindName
from tutelage.continual.replay.pool import Held, Pool, share
from tutelage.errors import ConfigError


@dataclass(frozen=True)
class Deleted:
    """What a request to forget came to."""

    asked: tuple[str, ...]
    """Ids, sorted, each once."""
    found: tuple[str, ...]
    """Those of them that the buffer held."""
    left: int
    """Items that stay."""
    digest: str
    """Of the buffer afterwards; `buffer.json` has the same one once it is saved."""


class Buffer:
    """Keeps, of all items ever added, the ones its kind ranks first, as many as the budget holds.

    In each pool the items stand by rank and the longest beginning that fits its share stays; the first one
    that does not fit, and all behind it, are let go for good. So less room is left in a full pool than the
    item that was let go needs.

    What is exact, for all kinds: the content after `add` and `merge` is the one of a single buffer that got
    the union, for any order, portions and number of buffers, bit for bit, also when a part was saved and
    loaded. It holds without a condition on how much each of them let go: the share of a pool only shrinks as
    items come, so what one buffer let go the union lets go too, and the pool's bound (saved with it) keeps
    smaller items behind it from taking that room. It needs that an id always comes with the same values.

    When an id comes again with other values, the newest wins, in `merge` those of the other buffer. A new
    rank neither drops the item nor moves the bound; it leaves when its room is needed.

    A delete leaves bounds where they are, so that what comes later has the chance that others had; a pool
    that a delete empties starts anew.

    Raises:
        ConfigError: a budget that is not positive.
    """

    def __init__(self, budget_bytes: int, kind: KindName = "reservoir", seed: int = 0) -> None:
        if budget_bytes <= 0:
            raise ConfigError(
                f"a replay buffer of {budget_bytes} bytes holds nothing",
                fix="give a budget of at least 1 byte",
            )
        self.budget_bytes = budget_bytes
        self.kind = kind
        self.seed = seed
        self.refused = 0
        """Items that were larger than the budget, each time they came."""
        self._kind = KINDS[kind]
        self._pools: dict[Group, Pool] = {}
        self._pool_of: dict[str, Group] = {}
        self._ordered: list[Item] | None = None

    def __len__(self) -> int:
        return len(self._pool_of)

    def __iter__(self) -> Iterator[Item]:
        """By slice, and within a slice by key: equal content in equal order."""
        if self._ordered is None:
            held = (one.item for pool in self._pools.values() for one in pool.items.values())
            self._ordered = sorted(held, key=lambda item: (item.slice, item.key, item.id))
        return iter(self._ordered)

    @property
    def bytes(self) -> int:
        """Of all items, as `measure` counts them; never more than the budget."""
        return sum(pool.nbytes for pool in self._pools.values())

    def add(self, items: Iterable[Item]) -> None:
        """Offer items. While it takes them in, the buffer may stand an eighth over its budget.

        Raises:
            DataError: an item that cannot be stored; those before it were offered.
        """
        unsettled = 0
        try:
            for item in items:
                held = self._hold(item, key_of(self.seed, item.id))
                self._offer(held)
                unsettled += held.nbytes
                if unsettled > self.budget_bytes // 8:
                    self._settle()
                    unsettled = 0
        finally:
            self._settle()

    def merge(self, other: Buffer) -> None:
        """Take in all that another buffer of the same kind, seed and budget holds; it stays as it is.

        Raises:
            ConfigError: a buffer of another kind, seed or budget.
        """
        mine, its = ((one.kind, one.seed, one.budget_bytes) for one in (self, other))
        if mine != its:
            raise ConfigError(
                f"buffers of unlike kind, seed or budget cannot be merged: {mine} and {its}",
                fix="build all of them from one section of the job file",
            )
        self.refused += other.refused
        for group, theirs in other._pools.items():
            pool = self._pools.setdefault(group, Pool())
            # What one buffer let go, the other must not keep in its place.
            for id in _between(pool, theirs.bound, pool.bound):
                pool.remove(id)
                del self._pool_of[id]
            drop = set(_between(theirs, pool.bound, theirs.bound))
            pool.bound = min(pool.bound, theirs.bound)
            for id, held in theirs.items.items():
                if id not in drop:
                    self._put(group, held)
        self._settle()

    def delete(self, ids: Iterable[str]) -> Deleted:
        """Forget examples. Nothing of them is in the files of the next `save`; `traces` proves it.

        An example that is offered again is taken in again.
        """
        asked = sorted(set(ids))
        found = [id for id in asked if id in self._pool_of]
        for group in {self._pool_of[id] for id in found}:
            pool = self._pools[group]
            for id in found:
                pool.remove(id)
            if not pool.items:
                del self._pools[group]
        for id in found:
            del self._pool_of[id]
        self._ordered = None
        return Deleted(tuple(asked), tuple(found), len(self), self.digest())

    def sample(self, n: int, rng: np.random.Generator) -> list[Item]:
        """n different items in random order, each with the same chance; all when there are fewer."""
        items = list(self)
        return (
            [items[at] for at in rng.choice(len(items), min(n, len(items)), replace=False)] if items else []
        )

    def groups(self) -> dict[Group, list[Item]]:
        """The items by slice and label, in order."""
        made: dict[Group, list[Item]] = {group: [] for group in self.counts()}
        for item in self:
            made[item.slice, item.label].append(item)
        return made

    def counts(self) -> dict[Group, int]:
        """How many items each slice and label has, sorted; None stands before all labels."""
        counted = Counter((item.slice, item.label) for item in self)
        return {group: counted[group] for group in sorted(counted, key=_group_order)}

    def state(self) -> dict[str, Any]:
        """All but the items, as JSON can hold it; with them `restore` makes the buffer again."""
        bounded = [(group, pool.bound) for group, pool in self._pools.items() if pool.bound < math.inf]
        return {
            "kind": self.kind,
            "seed": self.seed,
            "budget_bytes": self.budget_bytes,
            "refused": self.refused,
            "bounds": [
                [*group, bound] for group, bound in sorted(bounded, key=lambda one: _group_order(one[0]))
            ],
        }

    @classmethod
    def restore(cls, state: Mapping[str, Any], items: Iterable[Item]) -> Buffer:
        """The buffer that had this state and these items, their keys among them."""
        buffer = cls(state["budget_bytes"], state["kind"], state["seed"])
        buffer.refused = state["refused"]
        for slice_, label, bound in state["bounds"]:
            buffer._pools[slice_, label] = Pool(bound)
        for item in items:
            buffer._put(buffer._kind.pool(item), buffer._hold(item, item.key))
        return buffer

    def digest(self) -> str:
        """blake3 over the state and all items in order, as 64 hex digits."""
        hasher = blake3(json.dumps(self.state()).encode())
        for name, items in groupby(self, lambda item: item.slice):
            rows = [
                [i.id, i.digest, i.label, i.columns, i.loss, i.logits, i.logits_by] for i in items
            ]  # the key follows from seed and id
            hasher.update(json.dumps([name, rows], sort_keys=True, default=bytes.hex).encode())
        return hasher.hexdigest()

    def _hold(self, item: Item, key: int) -> Held:
        item, nbytes = measure(item, key)
        return Held(item, self._kind.rank(item), nbytes)

    def _offer(self, held: Held) -> None:
        id, group = held.item.id, self._kind.pool(held.item)
        known = self._pool_of.get(id)
        pool = self._pools.get(group)
        if held.nbytes > self.budget_bytes:
            self.refused += 1
        elif pool is None or held.rank < pool.bound or known == group:
            self._put(group, held)
            return
        if known is not None:  # the older values are out of date, though the newer ones have no room
            self._remove(id)

    def _put(self, group: Group, held: Held) -> None:
        id = held.item.id
        if self._pool_of.get(id, group) != group:
            self._remove(id)
        self._pools.setdefault(group, Pool()).put(held)
        self._pool_of[id] = group
        self._ordered = None

    def _remove(self, id: str) -> None:
        self._pools[self._pool_of.pop(id)].remove(id)
        self._ordered = None

    def _settle(self) -> None:
        """Cut every pool to its share. One that let something go wants more than any share."""
        pools = self._pools.values()
        level = share(
            self.budget_bytes, [pool.nbytes if pool.bound == math.inf else math.inf for pool in pools]
        )
        for pool in pools:
            for id in pool.cut(level):
                del self._pool_of[id]
                self._ordered = None


def _between(pool: Pool, low: float, high: float) -> list[str]:
    return [id for id, held in pool.items.items() if low <= held.rank < high] if low < high else []


def _group_order(group: Group) -> tuple[str, bool, str]:
    return group[0], group[1] is not None, group[1] or ""
