"""Signals that were paid for once are kept: by teacher fingerprint, payload spec and example digest."""

from tutelage.signals.store.arrow import ArrowStore
from tutelage.signals.store.base import SignalStore
from tutelage.signals.store.memory import MemoryStore
from tutelage.signals.store.open import open_store, signal_folder, signals_root

__all__ = ["ArrowStore", "MemoryStore", "SignalStore", "open_store", "signal_folder", "signals_root"]
