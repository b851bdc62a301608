"""The store that a job's configuration asks for."""

from __future__ import annotations

from pathlib import Path

from tutelage.config.store import StoreConfig
from tutelage.signals.spec import PayloadSpec
from tutelage.signals.store.arrow import ArrowStore
from tutelage.signals.store.base import SignalStore
from tutelage.signals.store.memory import MemoryStore


def signal_folder(home: Path, fingerprint: str, spec: PayloadSpec) -> Path:
    """Where the signals of one teacher and spec lie on this machine."""
    return signals_root(home) / fingerprint / spec.key


def signals_root(home: Path) -> Path:
    """The folder of all signals on this machine."""
    return home / "signals"


def open_store(config: StoreConfig, folder: Path, teacher: str = "") -> SignalStore:
    """The store of a folder that `signal_folder` named; `teacher` is the job's word for it, shown by `ls`.

    Raises:
        StoreError: the folder cannot be made, or the URL cannot be used.
    """
    if not config.enabled:
        return MemoryStore()
    return ArrowStore(
        folder,
        teacher=teacher,
        url=config.url,
        max_bytes=None if config.max_gb is None else config.max_gb * 1e9,
        flush_bytes=config.flush_mb * 1e6,
    )
