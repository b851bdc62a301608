"""Signals that were paid for once are kept: by teacher fingerprint, payload spec and example digest."""

from tutelage.signals.store.arrow import ArrowStore
from tutelage.signals.store.base import SignalStore
from tutelage.signals.store.memory import MemoryStore

__all__ = ["ArrowStore", "MemoryStore", "SignalStore"]
