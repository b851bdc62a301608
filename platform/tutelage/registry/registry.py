"""The registry of one home folder, opened as the environment says."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tutelage.registry.artifacts import ArtifactStore
from tutelage.registry.database import Database
from tutelage.registry.runs import Runs
from tutelage.registry.versions import Versions


@dataclass(frozen=True)
class Registry:
    """Runs and versions that share a database."""

    database: Database
    artifacts: ArtifactStore
    runs: Runs
    versions: Versions


def open_registry(home: Path, clock: Callable[[], float] | None = None) -> Registry:
    """Database at $TUTELAGE_DB or home/registry.db, files at $TUTELAGE_ARTIFACTS or home/artifacts.

    Without a `clock`, runs go by the database's and files by this machine's.

    Raises:
        StoreError: one of them cannot be opened.
    """
    database = Database.at_home(home)
    here = clock or time.time
    artifacts = ArtifactStore(os.environ.get("TUTELAGE_ARTIFACTS") or home / "artifacts", here)
    return Registry(database, artifacts, Runs(database, clock), Versions(database, artifacts, home, here))
