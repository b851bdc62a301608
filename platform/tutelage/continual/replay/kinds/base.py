"""What tells one kind of buffer from another."""

from __future__ import annotations

from typing import Protocol

from tutelage.continual.replay.item import Item

Group = tuple[str, str | None]
"""Slice and label."""
ALL: Group = ("", None)
"""The pool of a kind that has only one."""


class Kind(Protocol):
    """Which items compete with each other, and which of them stay. Both are fixed by the item alone."""

    def pool(self, item: Item) -> Group:
        """The pool whose room the item needs. Pools share the budget evenly."""

    def rank(self, item: Item) -> float:
        """The items of a pool with the smallest ranks stay. Two items have the same rank by chance only."""
