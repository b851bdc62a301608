"""Runs: what was started, who holds it, how it ended, and what it measured."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

from sqlalchemy import select
from sqlalchemy.orm import Session

from tutelage.errors import ConfigError, StoreError
from tutelage.holder import Holder
from tutelage.registry import leases
from tutelage.registry.database import Database
from tutelage.registry.tables import LeaseRow, RunRow

Status = Literal["running", "done", "failed", "interrupted"]
STATUSES: tuple[str, ...] = get_args(Status)


@dataclass(frozen=True)
class Run:
    """One run as it is now."""

    run_id: str
    kind: str
    job_name: str
    status: str
    """`interrupted` also where it never ended and nobody holds it."""
    host: str
    pid: int
    started: float
    """When it was begun or gone on with; seconds since 1970."""
    finished: float | None
    digest: str
    config_yaml: str
    parent: str | None
    figures: dict[str, Any]
    fence: int
    """How often it was taken, the number of who took it last."""
    spent: float
    """Seconds of the attempts before, of which this one is the continuation."""
    silent_s: float | None
    """While it runs, seconds since its holder's last heart-beat."""

    @property
    def seconds(self) -> float | None:
        """How long was worked on it; None while it runs, and where its end is not known."""
        return None if self.finished is None else self.spent + self.finished - self.started


class Runs:
    """The runs of one registry.

    Args:
        database: where they are kept.
        clock: seconds since 1970; the database's own clock when null.
        process: who starts runs here; the calling process when null.
    """

    def __init__(
        self,
        database: Database,
        clock: Callable[[], float] | None = None,
        *,
        process: Holder | None = None,
    ) -> None:
        self._database, self._clock, self._process = database, clock, process
        self._held: dict[str, int] = {}

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
        fresh: bool = False,
        claim: Callable[[int], object] | None = None,
    ) -> Run:
        """Record that this process begins a run, or goes on with one that failed or was interrupted.

        With `again`, also a run that is done begins anew; `fresh` says that nothing is gone on with. `claim`
        gets the lease's number while no other can take one: what it writes elsewhere is in the leases' order.

        Raises:
            StoreError: the run is done, or another process holds it.
        """
        process = self._process or Holder.this()
        with self._database.write() as session:
            now = self._now(session)
            row, spent = session.get(RunRow, run_id), 0.0
            if row is None:
                row = RunRow(run_id=run_id)
                session.add(row)
            else:
                lease = session.get(LeaseRow, run_id)
                self._may_go_on(row, lease, now, again)
                if lease and row.status != "done" and not fresh:
                    spent = lease.spent + max(0.0, (row.finished or lease.beat) - row.started)
            row.kind, row.job_name, row.config_yaml, row.digest = kind, job_name, config_yaml, digest
            row.host, row.pid, row.process_started, row.started = process.host, process.pid, now, now
            row.status, row.finished, row.parent, row.figures = "running", None, parent, "{}"
            lease = leases.take(session, row, process, now, spent=spent)
            session.flush()
            run = self._run(row, lease, now)
            if claim is not None:
                claim(run.fence)
        self._hold(run_id, run.fence)
        return run

    def finish(self, run_id: str, status: Status, figures: Mapping[str, Any] | None = None) -> Run:
        """Record how a running run ended and what it measured, and let go of it.

        Raises StoreError when it does not run, or another process took it.
        """
        if status not in STATUSES or status == "running":
            raise ValueError(f"a run ends as done, failed or interrupted, not '{status}'")
        text = json.dumps(figures or {}, allow_nan=True)
        fence = self._let_go(run_id)
        with self._database.write(guarded=False) as session:
            if fence is None:
                self._running(session, run_id)
                raise StoreError(
                    f"run '{run_id}' is not held by this process, which cannot end it",
                    fix=f"`tutelage runs release {run_id}` takes it from its holder",
                )
            leases.check(session, run_id, fence)
            row = self._running(session, run_id)
            row.status, row.finished, row.figures = status, self._now(session), text
            session.flush()
            return self._run(row, session.get(LeaseRow, run_id), row.finished)

    def release(self, run_id: str, claim: Callable[[str, int], object] | None = None) -> Run:
        """Take a run from whoever holds it: it counts as interrupted, and that process cannot write to it.

        Gives the run as it was. `claim` gets the run's whole id and the lease's number, as in `start`.
        Raises StoreError when it does not run.
        """
        before = self.get(run_id)
        with self._database.write(guarded=False) as session:
            row = self._running(session, before.run_id, "nothing: nobody holds it")
            now = self._now(session)
            row.status, row.finished = "interrupted", now
            lease = session.get(LeaseRow, row.run_id)
            if lease is not None:
                row.finished = min(now, max(lease.beat, row.started))
                lease.fence += 1
                session.flush()
                if claim is not None:
                    claim(row.run_id, lease.fence)
        return before

    def beat(self) -> list[str]:
        """Say that this process lives; the runs that it holds no more."""
        lost = []
        for run_id, fence in list(self._held.items()):
            with self._database.touch() as session:
                if not leases.beat(session, run_id, fence, self._now(session)):
                    lost.append(run_id)
        return [run_id for run_id in lost if run_id in self._held]  # it may have ended meanwhile

    def get(self, run_id: str) -> Run:
        """A run by its id or the beginning of one. Raises ConfigError when none or several are meant."""
        with self._database.read() as session:
            row = session.get(RunRow, run_id)
            if row is not None:
                lease = session.get(LeaseRow, run_id) if self._database.has_leases else None
                return self._run(row, lease, self._now(session))
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
            now = self._now(session)
            every = session.scalars(select(LeaseRow)) if self._database.has_leases else ()
            held = {lease.run_id: lease for lease in every}
            runs = [self._run(row, held.get(row.run_id), now) for row in session.scalars(query)]
        return [run for run in runs if status in (None, run.status)]

    def _now(self, session: Session) -> float:
        return self._clock() if self._clock else self._database.now(session)

    def _hold(self, run_id: str, fence: int) -> None:
        self._held[run_id] = fence
        self._database.guard(run_id, partial(leases.check, run_id=run_id, fence=fence))

    def _let_go(self, run_id: str) -> int | None:
        self._database.guard(run_id, None)
        return self._held.pop(run_id, None)

    def _running(self, session: Session, run_id: str, fix: str = "start it first") -> RunRow:
        row = session.get(RunRow, run_id)
        if row is None or row.status != "running":
            state = "is not known" if row is None else f"is {row.status} already"
            raise StoreError(f"run '{run_id}' {state}; only a running run can end", fix=fix)
        return row

    def _may_go_on(self, row: RunRow, lease: LeaseRow | None, now: float, again: bool) -> None:
        if row.status == "done" and not again:
            raise StoreError(f"run '{row.run_id}' is done", fix="start a run with another id")
        if row.status == "running" and lease is not None and leases.is_held(row, lease, now):
            raise leases.refused(row, lease, now)

    def _run(self, row: RunRow, lease: LeaseRow | None, now: float) -> Run:
        held = row.status == "running" and leases.is_held(row, lease, now)
        return Run(
            run_id=row.run_id,
            kind=row.kind,
            job_name=row.job_name,
            status="interrupted" if row.status == "running" and not held else row.status,
            host=row.host,
            pid=row.pid,
            started=row.started,
            finished=row.finished,
            digest=row.digest,
            config_yaml=row.config_yaml,
            parent=row.parent,
            figures=json.loads(row.figures),
            fence=lease.fence if lease else 0,
            spent=lease.spent if lease else 0.0,
            silent_s=max(0.0, now - lease.beat) if held and lease else None,
        )
