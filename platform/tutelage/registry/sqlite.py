"""A SQLite file as a database that many processes share: made whole, opened as its folder allows."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event

from tutelage.errors import StoreError

WRITE_S, READ_S = 60, 5
"""How long a writer waits for other writers, and how long a reader waits at all: it needs no lock."""


def open_file(path: Path, create: Callable[[Engine], None]) -> tuple[Engine, bool]:
    """The engine of a registry's file, and whether it can be written.

    A file that is missing is made aside by `create` and appears whole, so an empty one is nobody's beginning.

    Raises:
        StoreError: an empty file.
        OSError, SQLAlchemyError: it can be neither opened nor made.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _make(path, create)
    if path.stat().st_size == 0:
        raise StoreError(
            f"{path} is an empty file and no registry",
            fix=f"put the registry back from a copy; to begin without runs and versions: rm '{path}'",
        )
    if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
        return prepared(create_engine(URL.create("sqlite", database=str(path)))), True
    return prepared(_read_only(path)), False


def _make(path: Path, create: Callable[[Engine], None]) -> None:
    scratch = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        made = scratch / path.name
        engine = prepared(create_engine(URL.create("sqlite", database=str(made)), poolclass=NullPool))
        create(engine)
        keep_log(engine)
        engine.dispose()
        try:
            os.link(made, path)
        except FileExistsError:
            pass  # another process was first, and its file is as good
        except OSError:  # a file system without hard links
            if not path.exists():
                made.rename(path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _read_only(path: Path) -> Engine:
    """Reads where nothing can be written; a log that nobody left open need not be looked for."""
    log = path.with_name(f"{path.name}-wal")

    def connect() -> sqlite3.Connection:
        # Asked each time: a writer may come after this process opened the registry, and leave.
        try:
            still = "" if log.stat().st_size else "&immutable=1"
        except FileNotFoundError:
            still = "&immutable=1"
        uri = f"file:{quote(str(path))}?mode=ro{still}"
        return sqlite3.connect(uri, uri=True, check_same_thread=False)

    return create_engine("sqlite://", creator=connect, poolclass=NullPool)


def prepared(engine: Engine) -> Engine:
    """The engine with our own BEGIN and foreign keys."""
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def keep_log(engine: Engine) -> None:
    """Have the file keep a log, with which readers and a writer do not wait for each other."""
    with closing(engine.raw_connection()) as connection, closing(connection.cursor()) as cursor:
        cursor.execute("PRAGMA journal_mode")
        if cursor.fetchall()[0][0] not in ("wal", "memory"):
            with suppress(sqlite3.OperationalError):  # in use by another: it is as good without
                cursor.execute("PRAGMA journal_mode = WAL")


def _prepare(connection: Any, _record: Any) -> None:
    # The driver's own BEGIN comes too late and is never IMMEDIATE; `_begin` sends it instead.
    connection.isolation_level = None
    with closing(connection.cursor()) as cursor:
        cursor.execute(f"PRAGMA busy_timeout = {READ_S * 1000}")
        cursor.execute("PRAGMA foreign_keys = ON")


def _begin(connection: Connection) -> None:
    # A reader that becomes a writer gets "database is locked" at once, without waiting: take the lock first.
    write = connection.get_execution_options().get("tutelage_write", False)
    connection.exec_driver_sql(f"PRAGMA busy_timeout = {(WRITE_S if write else READ_S) * 1000}")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
