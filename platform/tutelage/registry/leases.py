"""Leases: who holds a run, as long as its heart beats; a number tells the holder of now from all before."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from sqlalchemy import update
from sqlalchemy.orm import Session

from tutelage.errors import StoreError
from tutelage.holder import Holder
from tutelage.registry.tables import LeaseRow, RunRow

BEAT_S, TTL_S = 10.0, 90.0
"""How often a holder says that it lives, and after how long without a word its run is free."""


LOG = logging.getLogger(__name__)


class LostError(StoreError):
    """This process holds a run no more; it must not write."""


def holder_of(run: RunRow, lease: LeaseRow) -> Holder:
    """Who holds the run, or held it last."""
    return Holder(run.host, run.pid, lease.machine, lease.born)


def is_held(run: RunRow, lease: LeaseRow | None, now: float) -> bool:
    """Whether somebody holds a run that was never ended.

    A process of this machine is looked for; one elsewhere is known by its heart alone. One that began before
    there were leases has none, and holds nothing.
    """
    if lease is None:
        return False
    lives = holder_of(run, lease).lives
    return now - lease.beat <= TTL_S if lives is None else lives


def take(session: Session, run: RunRow, holder: Holder, now: float, *, spent: float) -> LeaseRow:
    """Make the process the holder, with the next number."""
    lease = session.get(LeaseRow, run.run_id)
    if lease is None:
        lease = LeaseRow(run_id=run.run_id, fence=0)
        session.add(lease)
    lease.fence += 1
    lease.machine, lease.born, lease.beat, lease.spent = holder.machine, holder.born, now, spent
    return lease


def beat(session: Session, run_id: str, fence: int, now: float) -> bool:
    """Say that the holder with this number lives; False when it holds the run no more."""
    known = update(LeaseRow).where(LeaseRow.run_id == run_id, LeaseRow.fence == fence).values(beat=now)
    return bool(getattr(session.execute(known), "rowcount", 0))


def check(session: Session, run_id: str, fence: int) -> None:
    """Raise LostError when the run has another number."""
    lease = session.get(LeaseRow, run_id, populate_existing=True)
    if lease is None or lease.fence != fence:
        raise taken(run_id)


def taken(run_id: str) -> LostError:
    """What a process is told that was shut out."""
    return LostError(
        f"run '{run_id}' was taken from this process, by `runs release` or by another process after "
        f"{TTL_S:g} s without a heart-beat of this one; it writes nothing more",
        fix=f"`tutelage runs show {run_id}` says who holds it; when nobody does, repeat the command",
    )


def refused(run: RunRow, lease: LeaseRow, now: float) -> StoreError:
    """What a second writer is told."""
    age = max(0.0, now - lease.beat)
    holder = holder_of(run, lease)
    if holder.lives:
        wait = f"wait for it, or end it: kill {run.pid}"
    else:
        wait = f"wait for it; if that machine is gone, the run is free in {max(1.0, TTL_S - age):.0f} s"
    return StoreError(
        f"run '{run.run_id}' is held by {holder}; its last heart-beat was {age:.0f} s ago",
        fix=f"{wait}. `tutelage runs release {run.run_id}` takes the run from it at once",
    )


class Beating(Protocol):
    """Whose heart beats."""

    def beat(self) -> list[str]:
        """Say that this process lives; the runs that it has lost."""
        ...


class HeartBeats:
    """Beats from a thread while the body runs.

    Args:
        runs: what is held.
        on_loss: called once, in the thread, when a run was lost.
        every_s: seconds between two beats; BEAT_S when null.
    """

    def __init__(self, runs: Beating, on_loss: Callable[[], None], *, every_s: float | None = None) -> None:
        self._runs, self._on_loss, self._every_s = runs, on_loss, every_s or BEAT_S
        self._over = threading.Event()
        self.lost: list[str] = []
        self._thread = threading.Thread(target=self._run, name="heart-beats", daemon=True)

    def __enter__(self) -> HeartBeats:
        self._thread.start()
        return self

    def __exit__(self, *_ended: object) -> None:
        self._over.set()
        self._thread.join(2 * self._every_s)

    def _run(self) -> None:
        away = False
        while not self._over.wait(self._every_s):
            try:
                self.lost, away = self._runs.beat(), False
            except StoreError as problem:  # it comes back, or the next write says what happened meanwhile
                if not away:
                    LOG.warning("%s; after %.0f s others may take this run", problem.problem, TTL_S)
                away = True
            if self.lost:
                self._on_loss()
                return
