"""How a command that did not work ends: a message, what to do, and an exit code.

0    ok
1    GateError: everything ran, and the result is not good enough
2    usage, job file or data
3    infrastructure, and errors that nobody foresaw (with a log of the traceback)
130  stopped by Ctrl-C; 143 by SIGTERM; 129 by SIGHUP, which a closed terminal sends
"""

from __future__ import annotations

import os
import platform
import shlex
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from tutelage.cli.console import Console
from tutelage.errors import StoreError, TutelageError
from tutelage.files import home

STOPPED = 130
UNFORESEEN = 3
USAGE = 2


def fail(error: BaseException, console: Console, argv: Sequence[str], *, debug: bool) -> int:
    """Say what went wrong; gives the exit code."""
    if debug:
        traceback.print_exception(error, file=sys.stderr)
    if isinstance(error, KeyboardInterrupt):
        console.error("stopped")
        return int(getattr(error, "exit_code", STOPPED))
    if isinstance(error, TutelageError):
        problems = [
            {"key": problem.key, "text": problem.text, "origin": problem.origin}
            for problem in getattr(error, "problems", ())
        ]
        details: dict[str, object] = {"problems": problems} if problems else {}
        return _end(console, type(error).__name__, error.problem, error.fix, error.exit_code, **details)
    log = write_crash_log(error, argv)
    kind = type(error).__name__
    fix = f"the traceback is in {log}; --debug prints it"
    return _end(console, kind, f"unexpected {kind}: {_first_line(error)}", fix, UNFORESEEN, log=str(log))


def usage(problem: str, console: Console, command: str) -> int:
    """Say that the command line cannot be meant; gives the exit code."""
    return _end(console, "UsageError", problem, f"`{command} --help` shows what is possible", USAGE)


def _end(console: Console, *words: str | int, **details: object) -> int:
    """Say kind, problem, fix and exit code; with `--json` a failure is an answer too."""
    kind, problem, fix, exit_code = words
    console.error(str(problem), str(fix))
    if console.as_json and not console.answered:
        failure = {"kind": kind, "problem": problem, "fix": fix, "exit_code": exit_code, **details}
        console.result({"error": failure})
    return int(exit_code)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "no message"


def write_crash_log(error: BaseException, argv: Sequence[str]) -> Path:
    """The traceback, the command and the versions as a file below $TUTELAGE_HOME/logs."""
    name = f"crash-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    text = "".join(
        [
            f"command: tutelage {shlex.join(argv)}\n",
            f"python: {sys.version.split()[0]} on {platform.platform()}\n\n",
            *traceback.format_exception(error),
        ]
    )
    try:
        folder = home() / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / name
        path.write_text(text, encoding="utf-8")
    except (OSError, StoreError):
        path = Path(tempfile.mkdtemp(prefix="tutelage-")) / name
        path.write_text(text, encoding="utf-8")
    return path
