"""Who writes: one process of one machine, told apart without a clock; and the fence before its folder."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from tutelage.errors import StoreError
from tutelage.files import atomic_write

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_PIDS = Path("/proc/self/ns/pid")


@cache
def boot() -> str:
    """This machine since it was started; containers on it share it. The host's name where Linux is not."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return socket.gethostname()


@dataclass(frozen=True)
class Holder:
    """A process. A host's name alone tells little: every new container has another, and two may share one."""

    host: str
    """For people."""
    pid: int
    machine: str
    """Where the pid means something: a boot of a kernel, and a container's own numbering in it."""
    born: int
    """When the process started in ticks since that boot, which no step of a clock changes."""

    @classmethod
    def this(cls) -> Holder:
        """The calling process."""
        return cls(socket.gethostname(), os.getpid(), _machine(), _born(os.getpid()) or 0)

    @property
    def lives(self) -> bool | None:
        """Whether the process is there still; None for one of another machine, which cannot be known."""
        if self.machine != _machine():
            return None
        return _born(self.pid) == self.born

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def _machine() -> str:
    try:
        return f"{boot()} {os.readlink(_PIDS)}"
    except OSError:
        return boot()


def _born(pid: int) -> int | None:
    """When a process started; None when there is none or when it ended and nobody has asked how."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else int(fields[19])
    except FileNotFoundError:
        return None if Path("/proc/self/stat").exists() else _born_by_psutil(pid)
    except ProcessLookupError:
        return None


def _born_by_psutil(pid: int) -> int | None:
    import psutil

    try:
        process = psutil.Process(pid)
        dead = process.status() == psutil.STATUS_ZOMBIE
        return None if dead else int(process.create_time() * 100)
    except psutil.NoSuchProcess:
        return None


@dataclass(frozen=True)
class Fence:
    """Keeps a writer that lost its run from publishing a folder, on any machine that sees the home.

    The file holds the number of who took the run last; who has a smaller one is too late.
    """

    path: str
    number: int

    @classmethod
    def raise_to(cls, runs: Path, run: str, number: int, holder: Holder) -> Fence:
        """Put the number of this holder before the run, which shuts out all before it.

        Call it in the transaction that gives the number, or a pause puts an older number over a newer one.
        """
        path = _file(runs, run)
        with atomic_write(path) as file:
            json.dump({"number": number, "holder": asdict(holder)}, file)
        return cls(str(path), number)

    @classmethod
    def of(cls, runs: Path, run: str) -> Fence | None:
        """The fence that this process has raised; None for a run that nobody recorded.

        Raises:
            StoreError: another process holds the run.
        """
        path = _file(runs, run)
        if not path.exists():
            return None
        told = json.loads(path.read_text())
        if told["holder"] != asdict(Holder.this()):
            raise _too_late(run, Holder(**told["holder"]))
        return cls(str(path), told["number"])

    def check(self) -> None:
        """Raise StoreError when another process has taken the run since."""
        told = json.loads(Path(self.path).read_text())
        if told["number"] != self.number:
            raise _too_late(Path(self.path).stem, Holder(**told["holder"]))


def _file(runs: Path, run: str) -> Path:
    return runs / ".fences" / f"{run}.json"


def _too_late(run: str, holder: Holder) -> StoreError:
    return StoreError(
        f"run '{run}' was taken by {holder}; nothing of this process is written to it any more",
        fix=f"look at it with `tutelage runs show {run}`; repeat the command when it has ended",
    )
