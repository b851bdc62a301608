"""The one owner of the terminal: steps and messages on stderr, the result on stdout.

A terminal gets a live panel, everything else plain lines. With `--json` stdout holds one JSON document
and nothing else; with `--quiet` only warnings and errors are said.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from tutelage.cli.stages import Clock, StageState, Status, View
from tutelage.cli.text import table as text_table
from tutelage.cli.views import PlainView, QuietView
from tutelage.progress import Table
from tutelage.run_log import STEPS

LOG = logging.getLogger(STEPS)

Human = str | Callable[[], str | None]
"""What a person reads instead of JSON: the text, or a function that gives it or prints it itself."""

_ANSI = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


class Console:
    """What a command says. Implements `tutelage.progress.Progress`; safe to call from any thread."""

    def __init__(
        self,
        *,
        as_json: bool = False,
        quiet: bool = False,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
        environ: Mapping[str, str] | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self._stdout = sys.stdout if stdout is None else stdout
        self._stderr = sys.stderr if stderr is None else stderr
        self._environ = os.environ if environ is None else environ
        self._clock = clock
        self._lock = threading.RLock()
        self._open = threading.local()
        self._ended: list[StageState] = []
        self._answered = False
        self._view = self._choose_view()

    def _choose_view(self) -> View:
        if self.quiet:
            return QuietView(self._stderr)
        if self._stderr.isatty() and self._environ.get("TERM") not in ("dumb", "unknown"):
            from tutelage.cli.panel import live_view

            return live_view(self._stderr, self._environ, self._stdout.isatty())
        return PlainView(self._stderr, self._clock)

    @property
    def stages(self) -> list[dict[str, Any]]:
        """The steps that ended, in that order: name (outer/inner), seconds, ok."""
        with self._lock:
            return [
                {"name": stage.full_name, "seconds": round(stage.seconds, 3), "ok": stage.status == "done"}
                for stage in self._ended
            ]

    @property
    def answered(self) -> bool:
        """Whether the result was given."""
        return self._answered

    @contextmanager
    def stage(self, name: str) -> Iterator[StageHandle]:
        """Run the body as the visible step `name`; inside another step of this thread it is a part of it."""
        above: list[StageState] = self._open.__dict__.setdefault("stack", [])
        with self._lock:
            state = StageState(name, above[-1] if above else None, self._clock)
            self._view.opened(state)
            LOG.info("%s: started", state.full_name)
        above.append(state)
        status: Status = "failed"
        try:
            yield StageHandle(state, self._view, self._lock)
            status = "done"
        except (KeyboardInterrupt, GeneratorExit, SystemExit):
            status = "stopped"
            raise
        finally:
            above.pop()
            with self._lock:
                state.close(status)
                self._ended.append(state)
                self._view.closed(state)
                LOG.info("%s: %s after %.1f s", state.full_name, status, state.seconds)

    def say(self, text: str) -> None:
        """A line for people, on stderr."""
        with self._lock:
            self._view.say(text, "")
            LOG.info("%s", text)

    def warn(self, text: str) -> None:
        """A line for people that `--quiet` does not hide."""
        with self._lock:
            self._view.say(f"warning: {text}", "yellow")
            LOG.info("warning: %s", text)

    def error(self, problem: str, fix: str = "") -> None:
        """What went wrong and what to do, on stderr, whatever the options are."""
        with self._lock:
            self._view.stop()
            lines = [self._style("error: ", "red", self._stderr) + problem]
            if fix:
                lines.append(self._style("  fix: ", "cyan", self._stderr) + fix)
            self._stderr.write("\n".join(lines) + "\n")
            self._stderr.flush()

    def result(self, data: Mapping[str, Any] | Sequence[Any], human: Human = "") -> None:
        """The answer of the command, once, at its end: JSON with `--json`, else what `human` says."""
        if self._answered:
            raise RuntimeError("a command gives one result")
        self._answered = True
        if self.as_json:
            self._print(json.dumps(plain(data), indent=2, ensure_ascii=False, allow_nan=False))
            return
        text = human if isinstance(human, str) else human()
        if text:
            self._print(text)

    def line(self, text: str) -> None:
        """One line of an answer that comes piece by piece, on stdout."""
        self._answered = True
        self._print(text)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Aligned columns on stdout, as wide as the terminal, in full for a pipe; nothing with `--json`."""
        if self.as_json:
            return
        width = self._width() if self._stdout.isatty() else None
        header, *lines = text_table(columns, rows, width)
        if title:
            self._print("\n" + self._style(title, "bold", self._stdout))
        self._print(self._style(header, "dim", self._stdout))
        for line in lines:
            self._print(line)

    def styled(self, text: str, style: str) -> str:
        """`text` in `bold`, `dim`, `red`, `green`, `yellow` or `cyan` where stdout shows it."""
        return self._style(text, style, self._stdout)

    def close(self) -> None:
        """Give the terminal back, whatever is still open."""
        with self._lock:
            self._view.stop()

    def _print(self, text: str) -> None:
        with self._lock:
            self._stdout.write(text + "\n")
            self._stdout.flush()

    def _style(self, text: str, style: str, stream: TextIO) -> str:
        if not stream.isatty() or self._environ.get("NO_COLOR") or self._environ.get("TERM") == "dumb":
            return text
        return f"\x1b[{_ANSI[style]}m{text}\x1b[0m"

    def _width(self) -> int:
        columns = self._environ.get("COLUMNS", "")
        return (
            int(columns) if columns.isdecimal() and int(columns) > 0 else shutil.get_terminal_size().columns
        )


class StageHandle:
    """One open step, as `tutelage.progress.Stage`."""

    def __init__(self, state: StageState, view: View, lock: threading.RLock) -> None:
        self._state = state
        self._view = view
        self._lock = lock

    def update(self, done: float, total: float, **figures: float | str) -> None:
        """Say how far it is and what it measures."""
        with self._lock:
            if self._state.ended is None:
                self._state.update(done, total, figures)
                self._view.updated(self._state)

    def note(self, text: str) -> None:
        """Say one line that stays."""
        with self._lock:
            if self._state.ended is None:
                self._state.notes.append(text)
                self._view.noted(self._state, text)
                LOG.info("%s: %s", self._state.full_name, text)

    def waits(self, text: str) -> None:
        """Say what it waits for; empty when it goes on."""
        with self._lock:
            if self._state.ended is None and (text or self._state.waiting):
                if bool(text) != bool(self._state.waiting):
                    LOG.info("%s: %s", self._state.full_name, text or "goes on")
                self._state.waiting = text
                self._view.updated(self._state)

    def table(self, table: Table) -> None:
        """Show this table of the step's parts, in place of the one before."""
        with self._lock:
            if self._state.ended is None:
                self._state.table = table
                self._view.tabled(self._state)


def plain(value: Any) -> Any:
    """A value as JSON can hold it: NaN and infinity are null, paths and unknown objects are text."""
    if isinstance(value, Mapping):
        return {str(key): plain(below) for key, below in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(below) for below in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | int | float):
        return value
    for method in ("item", "tolist", "model_dump"):  # numpy scalars, numpy arrays, config sections
        convert = getattr(value, method, None)
        if callable(convert) and (method != "item" or getattr(value, "ndim", 0) == 0):
            return plain(convert())
    return str(value)
