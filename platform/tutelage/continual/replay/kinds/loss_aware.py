"""A sample in which hard examples are more frequent."""

from __future__ import annotations

import math

from tutelage.continual.replay.item import Item
from tutelage.continual.replay.kinds.base import ALL, Group

LEAST_WEIGHT = 1e-6
"""An example without any loss could never stay otherwise, not even in an empty buffer."""
UNMEASURED_WEIGHT = 1.0
"""Of an example whose loss nobody measured: as if it were 1 nat."""


class LossAware:
    """Weighted sampling without replacement (Efraimidis & Spirakis 2006), the weight w is the loss in nats.

    With u = (key + 1) / 2**64 in (0, 1], the items with the largest log(u) / w stay: the first one is any
    item with probability w / (sum of all w), the next one likewise among the others.
    """

    def pool(self, item: Item) -> Group:
        """One for all."""
        return ALL

    def rank(self, item: Item) -> float:
        """-log(u) / w."""
        weight = UNMEASURED_WEIGHT if item.loss is None else max(item.loss, LEAST_WEIGHT)
        return -math.log((item.key + 1) / 2**64) / weight
