"""One database for runs and versions: a SQLite file, or any SQLAlchemy URL. Many processes may write."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, insert, make_url, select
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.orm import Session

from tutelage.errors import StoreError
from tutelage.registry.tables import SCHEMA, Base, SchemaRow

BUSY_S = 60
"""How long a writer waits for the others before it gives up."""


class Database:
    """The registry's tables behind one engine.

    Args:
        url: a SQLAlchemy URL.

    Raises:
        StoreError: no database there, not a database, or one of another schema.
    """

    def __init__(self, url: str) -> None:
        self.place = url
        with self._explained():
            self.place = make_url(url).render_as_string(hide_password=True)
            self._engine = _engine(url)
            self._create()

    @classmethod
    def at_home(cls, home: Path) -> Database:
        """$TUTELAGE_DB, or `registry.db` below `home`."""
        return cls(os.environ.get("TUTELAGE_DB") or f"sqlite:///{home / 'registry.db'}")

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that sees one state of the database and changes nothing."""
        with self._explained(), Session(self._engine) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session that is alone in writing; committed at the end of the body, undone by an exception."""
        with self._explained(), Session(self._writer) as session, session.begin():
            session.execute(select(SchemaRow.number).with_for_update())
            yield session

    def close(self) -> None:
        """Give its connections back."""
        self._engine.dispose()

    @property
    def _writer(self) -> Engine:
        return self._engine.execution_options(tutelage_write=True)

    def _create(self) -> None:
        with self._writer.begin() as connection:
            Base.metadata.create_all(connection)
            found = connection.scalar(select(SchemaRow.number))
            if found is None:
                connection.execute(insert(SchemaRow).values(id=1, number=SCHEMA))
        if found is not None and found != SCHEMA:
            age = "a newer" if found > SCHEMA else "an older"
            raise StoreError(
                f"{self.place} was written by {age} tutelage: schema {found}, this one reads {SCHEMA}",
                fix="use the tutelage that wrote it, or set TUTELAGE_HOME or TUTELAGE_DB to another place",
            )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (ArgumentError, NoSuchModuleError, ImportError) as problem:
            raise StoreError(
                f"TUTELAGE_DB '{self.place}' is no database URL this installation can open: {problem}",
                fix="use sqlite:////folder/registry.db, or `pip install 'tutelage[postgres]'`",
            ) from problem
        except SQLAlchemyError as problem:
            raise StoreError(
                f"the registry {self.place} cannot be used: {_reason(problem)}",
                fix="check that the place exists, can be written and is no other file",
            ) from problem


def _reason(problem: SQLAlchemyError) -> str:
    return str(getattr(problem, "orig", None) or problem).splitlines()[0]


def _engine(url: str) -> Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True)
    if parsed.database and parsed.database != ":memory:":
        with suppress(OSError):  # SQLite says next that it cannot open the file
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    engine = create_engine(url, connect_args={"timeout": BUSY_S})
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: Any, _record: Any) -> None:
    # The driver's own BEGIN comes too late and is never IMMEDIATE; `_begin` sends it instead.
    connection.isolation_level = None
    cursor: sqlite3.Cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_S * 1000}")
    cursor.execute("PRAGMA foreign_keys = ON")
    if cursor.execute("PRAGMA journal_mode").fetchone()[0] not in ("wal", "memory"):
        cursor.execute("PRAGMA journal_mode = WAL")
    cursor.close()


def _begin(connection: Connection) -> None:
    # A reader that becomes a writer gets "database is locked" at once, without waiting: take the lock first.
    write = connection.get_execution_options().get("tutelage_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
