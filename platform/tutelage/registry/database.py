"""One database for runs and versions: a SQLite file, or any SQLAlchemy URL. Many processes may write."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, Engine, create_engine, insert, inspect, make_url, select, text
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.orm import Session

from tutelage.errors import StoreError
from tutelage.registry.sqlite import keep_log, open_file, prepared
from tutelage.registry.tables import SCHEMA, Base, LeaseRow, SchemaRow

_NOW = {
    # `unixepoch` with fractions came to SQLite later than what many systems have.
    "sqlite": "SELECT (julianday('now') - 2440587.5) * 86400.0",
    "postgresql": "SELECT extract(epoch FROM clock_timestamp())",
    "mysql": "SELECT unix_timestamp(sysdate(6))",
    "mariadb": "SELECT unix_timestamp(sysdate(6))",
}
_CREATING = 0x7475746C
"""PostgreSQL's lock for those who find no tables: "tutl"."""


class Database:
    """The registry's tables behind one engine.

    Args:
        url: a SQLAlchemy URL.

    Raises:
        StoreError: no database there, not a database, not a registry, or one of another schema.
    """

    def __init__(self, url: str | URL) -> None:
        self.place = str(url)
        self.writable = True
        self._guards: dict[str, Callable[[Session], None]] = {}
        with self._explained():
            try:
                self._engine = self._open(make_url(url))
            except OSError as problem:
                raise self._unusable(problem) from problem
            self._check()

    @classmethod
    def at_home(cls, home: Path) -> Database:
        """$TUTELAGE_DB, or `registry.db` below `home`."""
        given = os.environ.get("TUTELAGE_DB")
        # Built, not written: a path may hold what means something in a URL.
        return cls(given or URL.create("sqlite", database=str(home / "registry.db")))

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that sees one state of the database and changes nothing. Waits for no writer."""
        with self._explained(), Session(self._engine) as session:
            yield session

    @contextmanager
    def write(self, *, guarded: bool = True) -> Iterator[Session]:
        """A session that is alone in writing; committed at the end of the body, undone by an exception.

        With `guarded`, what this process holds is checked first, in the same transaction.
        """
        if not self.writable:
            raise StoreError(
                f"the registry {self.place} is read-only here",
                fix="make its file and folder writable, or set TUTELAGE_HOME to a folder of yours",
            )
        with self._explained(), Session(self._writer) as session, session.begin():
            session.execute(select(SchemaRow.number).with_for_update())
            for guard in list(self._guards.values()) if guarded else ():
                guard(session)
            yield session

    @contextmanager
    def touch(self) -> Iterator[Session]:
        """A session for one small change of one row: it waits for no other writer where rows have locks."""
        with self._explained(), Session(self._writer) as session, session.begin():
            yield session

    def guard(self, name: str, check: Callable[[Session], None] | None) -> None:
        """Have `check` allow every guarded write from here on; None takes it back."""
        if check is None:
            self._guards.pop(name, None)
        else:
            self._guards[name] = check

    def now(self, session: Session) -> float:
        """Seconds since 1970 on the database's clock, which all processes share."""
        return float(session.execute(text(_NOW[self._engine.dialect.name])).scalar_one())

    @property
    def has_leases(self) -> bool:
        """False for the read-only registry of a tutelage that had none."""
        return self._leases

    def close(self) -> None:
        """Give its connections back."""
        self._engine.dispose()

    @property
    def _writer(self) -> Engine:
        return self._engine.execution_options(tutelage_write=True)

    def _open(self, url: URL) -> Engine:
        self.place = url.render_as_string(hide_password=True)
        if url.get_backend_name() != "sqlite":
            if url.get_backend_name() not in _NOW:
                raise ArgumentError(f"only {', '.join(_NOW)} are known here")
            return create_engine(url, pool_pre_ping=True)
        memory = url.database in (None, "", ":memory:")
        if memory or url.query or str(url.database).startswith("file:"):
            return prepared(create_engine(url))
        self.place = str(url.database)
        engine, self.writable = open_file(Path(self.place), _create)
        return engine

    def _check(self) -> None:
        """Make the tables where there are none, and refuse what is not ours."""
        found = set(inspect(self._engine).get_table_names())
        sqlite = self._engine.dialect.name == "sqlite"
        if SchemaRow.__tablename__ not in found:
            foreign = found if sqlite else found & set(Base.metadata.tables)
            if foreign:
                raise StoreError(
                    f"{self.place} is a database of something else: it has the tables "
                    f"{', '.join(sorted(foreign)[:5])} and no {SchemaRow.__tablename__}",
                    fix="set TUTELAGE_DB or TUTELAGE_HOME to another place",
                )
            _create(self._engine)
        elif LeaseRow.__tablename__ not in found and self.writable:
            _create(self._engine)
        self._leases = self.writable or LeaseRow.__tablename__ in found
        with self.read() as session:
            number = session.scalar(select(SchemaRow.number))
        if number != SCHEMA:
            age = "a newer" if (number or 0) > SCHEMA else "an older"
            raise StoreError(
                f"{self.place} was written by {age} tutelage: schema {number}, this one reads {SCHEMA}",
                fix="use the tutelage that wrote it, or set TUTELAGE_HOME or TUTELAGE_DB to another place",
            )
        if sqlite and self.writable:
            keep_log(self._engine)

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
            raise self._unusable(problem) from problem

    def _unusable(self, problem: Exception) -> StoreError:
        return StoreError(
            f"the registry {self.place} cannot be used: {_reason(problem)}",
            fix="check that the place exists, can be written and is no other file",
        )


def _create(engine: Engine) -> None:
    with engine.execution_options(tutelage_write=True).begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_CREATING})"))
        Base.metadata.create_all(connection)
        if connection.scalar(select(SchemaRow.number)) is None:
            connection.execute(insert(SchemaRow).values(id=1, number=SCHEMA))


def _reason(problem: Exception) -> str:
    return str(getattr(problem, "orig", None) or problem).splitlines()[0]
