"""The items that compete for one share of the budget, and how large the shares are."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from typing import NamedTuple

from tutelage.continual.replay.item import Item


class Held(NamedTuple):
    """An item with its rank and size."""

    item: Item
    rank: float
    nbytes: int


class Pool:
    """Items by id, and the smallest rank that was ever let go.

    That bound is what makes a pool exact: nothing beyond it comes in again, even where a smaller item would
    fit, so a pool holds all it ever saw below its bound, whatever the order was.
    """

    def __init__(self, bound: float = math.inf) -> None:
        self.items: dict[str, Held] = {}
        self.bound = bound
        self.nbytes = 0
        self._largest: list[tuple[float, str]] = []
        """A heap of (-rank, id). Entries of removed or replaced items stay until they come up."""

    def put(self, held: Held) -> None:
        """Take an item in, in place of the one with its id."""
        self.remove(held.item.id)
        self.items[held.item.id] = held
        self.nbytes += held.nbytes
        heapq.heappush(self._largest, (-held.rank, held.item.id))
        if len(self._largest) > 2 * len(self.items) + 64:
            self._largest = [(-one.rank, id) for id, one in self.items.items()]
            heapq.heapify(self._largest)

    def remove(self, id: str) -> None:
        """Take the item out, if it is here."""
        held = self.items.pop(id, None)
        if held is not None:
            self.nbytes -= held.nbytes

    def cut(self, level_bytes: int) -> list[str]:
        """Let the largest ranks go until the rest fits, and move the bound; the ids of what went."""
        gone = []
        while self.nbytes > level_bytes:
            rank, id = heapq.heappop(self._largest)
            held = self.items.get(id)
            if held is not None and held.rank == -rank:
                self.remove(id)
                self.bound = min(self.bound, held.rank)
                gone.append(id)
        return gone


def share(budget_bytes: int, demands: Sequence[float]) -> int:
    """The level, in bytes, that even shares of the budget reach when no pool takes more than it demands.

    It is the largest one with sum(min(demand, level)) <= budget; the budget itself when all demands fit.
    """
    left, pools = budget_bytes, len(demands)
    for demand in sorted(demands):
        if demand > left // pools:
            return left // pools
        left -= int(demand)
        pools -= 1
    return budget_bytes
