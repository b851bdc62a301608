"""Runs: what was started, how it ended, and what it measured."""

from __future__ import annotations

import difflib
import json
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sqlalchemy import select

from tutelage.errors import ConfigError, StoreError
from tutelage.registry.database import Database
from tutelage.registry.tables import RunRow

Status = Literal["running", "done", "failed", "interrupted"]
STATUSES: tuple[str, ...] = get_args(Status)


@dataclass(frozen=True)
class Run:
    """One run as it is now."""

    run_id: str
    kind: str
    job_name: str
    status: str
    """`interrupted` also where the row says running and its process on this host is gone."""
    host: str
    pid: int
    started: float
    finished: float | None
    digest: str
    config_yaml: str
    parent: str | None
    figures: dict[str, Any]

    @property
    def seconds(self) -> float | None:
        """How long it took; None while it runs, and where its end is not known."""
        return None if self.finished is None else self.finished - self.started


@dataclass(frozen=True)
class Process:
    """Who runs: a host, a pid, and when that process started (seconds since 1970)."""

    host: str
    pid: int
    started: float

    @classmethod
    def this(cls) -> Process:
        """The calling process."""
        import psutil

        return cls(socket.gethostname(), os.getpid(), psutil.Process().create_time())


def is_alive(process: Process) -> bool:
    """False when the process was on this host and is gone; a process elsewhere is taken to live."""
    import psutil

    if process.host != socket.gethostname():
        return True
    try:
        found = psutil.Process(process.pid)
        return bool(abs(found.create_time() - process.started) < 2 and found.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class Runs:
    """The runs of one registry.

    Args:
        database: where they are kept.
        clock: seconds since 1970.
        process: who starts runs here; the calling process when null.
        alive: whether a process still runs.
    """

    def __init__(
        self,
        database: Database,
        clock: Callable[[], float] = time.time,
        *,
        process: Process | None = None,
        alive: Callable[[Process], bool] = is_alive,
    ) -> None:
        self._database, self._clock, self._alive = database, clock, alive
        self._process = process

    def start(
        self,
        run_id: str,
        kind: str,
        job_name: str,
        config_yaml: str,
        *,
        digest: str,
        parent: str | None = None,
        again: bool = False,
    ) -> Run:
        """Record that this process begins a run, or goes on with one that failed or was interrupted.

        With `again`, also a run that is done begins anew.

        Raises:
            StoreError: the run is done, or another process is running it.
        """
        process = self._process or Process.this()
        now = self._clock()
        with self._database.write() as session:
            row = session.get(RunRow, run_id)
            if row is None:
                row = RunRow(run_id=run_id, started=now)
                session.add(row)
            else:
                self._may_go_on(row, again)
            row.kind, row.job_name, row.config_yaml, row.digest = kind, job_name, config_yaml, digest
            row.host, row.pid, row.process_started = process.host, process.pid, process.started
            row.status, row.finished, row.parent, row.figures = "running", None, parent, "{}"
            session.flush()
            return self._run(row)

    def finish(self, run_id: str, status: Status, figures: Mapping[str, Any] | None = None) -> Run:
        """Record how a running run ended and what it measured. Raises StoreError when it does not run."""
        if status not in STATUSES or status == "running":
            raise ValueError(f"a run ends as done, failed or interrupted, not '{status}'")
        text = json.dumps(figures or {}, allow_nan=True)
        with self._database.write() as session:
            row = session.get(RunRow, run_id)
            if row is None or row.status != "running":
                state = "is not known" if row is None else f"is {row.status} already"
                raise StoreError(f"run '{run_id}' {state}; only a running run can end", fix="start it first")
            row.status, row.finished, row.figures = status, self._clock(), text
            session.flush()
            return self._run(row)

    def get(self, run_id: str) -> Run:
        """A run by its id or the beginning of one. Raises ConfigError when none or several are meant."""
        with self._database.read() as session:
            row = session.get(RunRow, run_id)
            if row is not None:
                return self._run(row)
            known = list(session.scalars(select(RunRow.run_id)))
        found = [name for name in known if name.startswith(run_id)]
        if len(found) == 1:
            return self.get(found[0])
        if found:
            raise ConfigError(
                f"run '{run_id}' is ambiguous: {', '.join(sorted(found))}", fix="write more of it"
            )
        near = difflib.get_close_matches(run_id, known, n=3, cutoff=0.4)
        hint = f"; near: {', '.join(near)}" if near else ""
        raise ConfigError(f"no run '{run_id}'{hint}", fix="`tutelage runs ls` lists them")

    def list(self, kind: str | None = None, job: str | None = None, status: str | None = None) -> list[Run]:
        """Runs that fit, newest first."""
        query = select(RunRow).order_by(RunRow.started.desc(), RunRow.run_id)
        if kind is not None:
            query = query.where(RunRow.kind == kind)
        if job is not None:
            query = query.where(RunRow.job_name == job)
        with self._database.read() as session:
            runs = [self._run(row) for row in session.scalars(query)]
        return [run for run in runs if status in (None, run.status)]

    def _may_go_on(self, row: RunRow, again: bool) -> None:
        status = self._status(row)
        if status == "done" and not again:
            raise StoreError(f"run '{row.run_id}' is done", fix="start a run with another id")
        if status == "running":
            raise StoreError(
                f"run '{row.run_id}' is running in process {row.pid} on {row.host}",
                fix="wait for it or stop that process",
            )

    def _status(self, row: RunRow) -> str:
        process = Process(row.host, row.pid, row.process_started)
        return "interrupted" if row.status == "running" and not self._alive(process) else row.status

    def _run(self, row: RunRow) -> Run:
        return Run(
            run_id=row.run_id,
            kind=row.kind,
            job_name=row.job_name,
            status=self._status(row),
            host=row.host,
            pid=row.pid,
            started=row.started,
            finished=row.finished,
            digest=row.digest,
            config_yaml=row.config_yaml,
            parent=row.parent,
            figures=json.loads(row.figures),
        )
