"""Ctrl-C, SIGTERM and a closed terminal (SIGHUP) stop a command alike, and cannot cut its clean-up short."""

from __future__ import annotations

import os
import signal
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(KeyboardInterrupt):
    """A signal asked this process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number
        """As a shell counts: 130 for SIGINT, 143 for SIGTERM, 129 for SIGHUP."""


@contextmanager
def stops() -> Iterator[None]:
    """Each signal of STOPPING raises Stopped in the main thread while the body runs.

    SIGINT is taken though it was ignored: a shell without job control ignores it for what it starts in the
    background, and that must be stoppable as well. SIGHUP stays ignored where it is: nohup means that.
    """
    with _handlers({number: _stop for number in STOPPING if not _under_nohup(number)}):
        yield


def take_stops() -> None:
    """Put the handlers of `stops` in place again, where a library has replaced one."""
    if threading.current_thread() is threading.main_thread():
        for number in STOPPING:
            if not _under_nohup(number):
                signal.signal(number, _stop)


@contextmanager
def stops_ignored() -> Iterator[None]:
    """No signal of STOPPING reaches the body, which must be short."""
    with _handlers(dict.fromkeys(STOPPING, signal.SIG_IGN)):
        yield


def shield_from_hang_up() -> None:
    """Processes that this thread starts from here on do not get SIGHUP.

    A closed terminal sends it to the whole process group. Ray's processes must end with the session, in
    order: one that is killed by the terminal itself takes with it what the others need to end.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})


def _stop(number: int, _frame: FrameType | None) -> None:
    if number == signal.SIGHUP:
        _leave_dead_terminal()
    raise Stopped(number)


def _under_nohup(number: int) -> bool:
    return number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN


def _leave_dead_terminal() -> None:
    """Output goes to /dev/null: each line to a terminal that is gone is an error in the clean-up."""
    for descriptor in (1, 2):
        with suppress(OSError):
            # A terminal that hung up is still a character device, and no terminal.
            if stat.S_ISCHR(os.fstat(descriptor).st_mode) and not os.isatty(descriptor):
                nothing = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nothing, descriptor)
                os.close(nothing)


@contextmanager
def _handlers(handlers: dict[signal.Signals, Any]) -> Iterator[None]:
    """Install signal handlers for the body; in other threads than the main one nothing is installed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
