"""Runs, versions, aliases and their receipts: a database beside a content-addressed file store."""

from tutelage.registry.artifacts import ArtifactStore, Manifest
from tutelage.registry.card import Lineage, VersionCard
from tutelage.registry.database import Database
from tutelage.registry.registry import Registry, open_registry
from tutelage.registry.runs import Run, Runs
from tutelage.registry.versions import Receipt, Version, Versions

__all__ = [
    "ArtifactStore",
    "Database",
    "Lineage",
    "Manifest",
    "Receipt",
    "Registry",
    "Run",
    "Runs",
    "Version",
    "VersionCard",
    "Versions",
    "open_registry",
]
