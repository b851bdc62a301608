"""The same room for every class of every slice."""

from __future__ import annotations

from tutelage.continual.replay.item import Item
from tutelage.continual.replay.kinds.base import Group


class Balanced:
    """A uniform sample of each (slice, label) in equal shares; what small groups leave over, others get."""

    def pool(self, item: Item) -> Group:
        """Slice and label."""
        return item.slice, item.label

    def rank(self, item: Item) -> float:
        """The key."""
        return item.key
