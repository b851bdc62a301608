"""The kinds of replay buffers, by the names that a job file gives them."""

from typing import Literal

from tutelage.continual.replay.kinds.balanced import Balanced
from tutelage.continual.replay.kinds.base import Group, Kind
from tutelage.continual.replay.kinds.loss_aware import LossAware
from tutelage.continual.replay.kinds.reservoir import Reservoir

KindName = Literal["reservoir", "balanced", "loss-aware"]
KINDS: dict[KindName, Kind] = {
    "reservoir": Reservoir(),
    "balanced": Balanced(),
    "loss-aware": LossAware(),
}

__all__ = ["KINDS", "Group", "Kind", "KindName"]
