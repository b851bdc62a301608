"""The tables. Times are seconds since 1970, UTC; JSON is text, so that every database holds it alike."""

from __future__ import annotations

from sqlalchemy import ForeignKeyConstraint, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

SCHEMA = 1
"""Raised when a table changes; a database of another number is not opened."""


class Base(DeclarativeBase):
    """All tables of the registry."""


class SchemaRow(Base):
    """One row: the number of the schema. Whoever changes or collects objects locks it."""

    __tablename__ = "schema_version"

    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]


class RunRow(Base):
    """One training, search, export or update."""

    __tablename__ = "runs"

    run_id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(index=True)
    job_name: Mapped[str] = mapped_column(index=True)
    status: Mapped[str]
    host: Mapped[str]
    pid: Mapped[int]
    process_started: Mapped[float]
    """Tells the process from a later one with the same pid."""
    started: Mapped[float]
    finished: Mapped[float | None]
    digest: Mapped[str]
    config_yaml: Mapped[str] = mapped_column(Text)
    parent: Mapped[str | None]
    figures: Mapped[str] = mapped_column(Text)


class LeaseRow(Base):
    """Who holds a run, as long as its heart beats. Stays when the run ends: its number only ever grows."""

    __tablename__ = "leases"

    run_id: Mapped[str] = mapped_column(primary_key=True)
    fence: Mapped[int]
    """Counts those who took the run; a writer with a smaller number is shut out."""
    machine: Mapped[str]
    born: Mapped[int]
    beat: Mapped[float]
    """The last sign of life, on the database's clock."""
    spent: Mapped[float]
    """Seconds of the attempts before, of which this one is the continuation."""


class VersionRow(Base):
    """One immutable version under one name."""

    __tablename__ = "versions"
    __table_args__ = (UniqueConstraint("name", "id"),)

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(index=True)
    id: Mapped[str] = mapped_column(index=True)
    created: Mapped[float]
    card: Mapped[str] = mapped_column(Text)
    manifest: Mapped[str] = mapped_column(Text)


class AliasRow(Base):
    """A movable name for a version."""

    __tablename__ = "aliases"
    __table_args__ = (ForeignKeyConstraint(["name", "version_id"], ["versions.name", "versions.id"]),)

    name: Mapped[str] = mapped_column(primary_key=True)
    alias: Mapped[str] = mapped_column(primary_key=True)
    version_id: Mapped[str]


class ReceiptRow(Base):
    """One move of an alias. Rows are only ever added."""

    __tablename__ = "receipts"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(index=True)
    alias: Mapped[str]
    at: Mapped[float]
    who: Mapped[str]
    from_id: Mapped[str | None]
    to_id: Mapped[str]
    why: Mapped[str] = mapped_column(Text)
