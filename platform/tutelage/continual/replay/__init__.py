"""Examples of earlier data within a budget of bytes: kept, merged, forgotten on demand, saved, loaded."""

from tutelage.continual.replay.buffer import Buffer, Deleted
from tutelage.continual.replay.item import Item
from tutelage.continual.replay.kinds import KindName
from tutelage.continual.replay.storage import load, save
from tutelage.continual.replay.traces import traces

__all__ = ["Buffer", "Deleted", "Item", "KindName", "load", "save", "traces"]
