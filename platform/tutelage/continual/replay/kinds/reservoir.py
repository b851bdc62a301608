"""A uniform sample of all that was ever seen."""

from __future__ import annotations

from tutelage.continual.replay.item import Item
from tutelage.continual.replay.kinds.base import ALL, Group


class Reservoir:
    """The smallest random keys stay, so every example had the same chance whenever it came.

    The same result as Vitter's algorithm R (1985), but the order of arrival has no part in it.
    """

    def pool(self, item: Item) -> Group:
        """One for all."""
        return ALL

    def rank(self, item: Item) -> float:
        """The key."""
        return item.key
