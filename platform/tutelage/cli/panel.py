"""The live view of a terminal: the running step with its bar and figures, finished steps above it.

A finished outermost step is printed for good, so the live part stays small and the scroll-back whole.
Drawing takes no lock of the console: rich draws from its own thread and holds a lock of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from tutelage.cli.stages import StageState
from tutelage.cli.text import clip, duration, figures, narrow_table, pad, sparkline
from tutelage.cli.views import ETA_FROM_S

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.live import Live
    from rich.text import Text

NAME_WIDTH = 24
TIME_WIDTH = 11
BAR_WIDTH = 26
SPARK_WIDTH = 20
WIDE = 76
"""From this width on, figures of a running step stand below its bar."""
NARROWEST = 8
"""Columns that a table gets at least."""
LIVE_NOTES = 5
"""Notes of a running step that stay in view; all of them are printed when it ends."""


@dataclass(frozen=True)
class Glyphs:
    """The signs that a terminal can show."""

    done: str
    failed: str
    stopped: str
    spin: str
    full: str
    rest: str
    sparks: bool


UNICODE = Glyphs("✓", "✗", "■", "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "━", "─", sparks=True)
ASCII = Glyphs("+", "x", "!", "|/-\\", "=", "-", sparks=False)

_STYLES = {"done": "green", "failed": "bold red", "stopped": "yellow", "running": "cyan"}


def block(stage: StageState, width: int, glyphs: Glyphs, *, depth: int = 0) -> list[Text]:
    """The lines of a step and of the steps inside it; only notes of ended steps are wider than `width`."""
    indent = "  " * (depth + 1)
    lines = [_head(stage, width, glyphs, indent)]
    running = stage.status == "running"
    if running and stage.figures:
        lines.append(_figures_line(stage, width, glyphs, indent + "  "))
    if running and stage.waiting:
        lines.append(_text((indent + "  ", ""), (clip(stage.waiting, width - len(indent) - 2), "yellow")))
    lines += _table_lines(stage, width, indent + "  ")
    notes = tuple(stage.notes)
    room = width - len(indent) - 2
    shown = [clip(note, room) for note in notes[-LIVE_NOTES:]] if running else notes
    lines += [_text((indent + "  ", ""), (note, "dim")) for note in shown]
    for child in tuple(stage.children):
        lines += block(child, width, glyphs, depth=depth + 1)
    return lines


def _text(*parts: tuple[str, str]) -> Text:
    from rich.text import Text

    return Text.assemble(*parts, no_wrap=True, end="")


def _head(stage: StageState, width: int, glyphs: Glyphs, indent: str) -> Text:
    running = stage.status == "running"
    spin = glyphs.spin[int(stage.seconds * 8) % len(glyphs.spin)]
    sign = (
        spin if running else {"done": glyphs.done, "failed": glyphs.failed}.get(stage.status, glyphs.stopped)
    )
    name_width = max(8, min(NAME_WIDTH - len(indent), width - len(indent) - 2 - TIME_WIDTH))
    name = pad(clip(stage.name, name_width), name_width)
    time = pad(duration(stage.seconds), TIME_WIDTH, right=True)
    room = width - len(indent) - 2 - name_width - TIME_WIDTH - 3
    parts = [
        (indent, ""),
        (sign + " ", _STYLES[stage.status]),
        (name, "bold" if running else ""),
        (time, "dim"),
    ]
    tail = _bar(stage, room, glyphs) if running else _outcome(stage, room)
    return _text(*parts, *([("   ", ""), *tail] if tail else []))


def _outcome(stage: StageState, room: int) -> list[tuple[str, str]]:
    """How an ended step went."""
    parts = []
    if stage.status != "done":
        parts.append((clip(pad(stage.status, 9), max(room, 0)), _STYLES[stage.status]))
        room -= 9
    words = figures(dict(stage.figures), max(room, 0))
    return [part for part in [*parts, (words, "dim")] if part[0]]


def _bar(stage: StageState, room: int, glyphs: Glyphs) -> list[tuple[str, str]]:
    share = stage.share
    if share is None:
        return []
    left = stage.left
    words = f"  {share:4.0%}".replace("%", " %")
    if left is not None and left > ETA_FROM_S:
        words += f"   {duration(math.ceil(left))} left"
    length = min(BAR_WIDTH, room - 24)
    if length < 6:
        return [(clip(words.strip(), room), "")] if room > 0 else []
    full = round(share * length)
    return [(glyphs.full * full, "cyan"), (glyphs.rest * (length - full), "dim"), (words, "")]


def _figures_line(stage: StageState, width: int, glyphs: Glyphs, indent: str) -> Text:
    start = indent + " " * max(0, NAME_WIDTH + TIME_WIDTH + 5 - len(indent)) if width >= WIDE else indent
    text = figures(dict(stage.figures), width - len(start))
    room = min(SPARK_WIDTH, width - len(start) - len(text) - 3)
    losses = tuple(stage.losses)
    spark = sparkline(losses, room) if glyphs.sparks and len(losses) >= 4 and room >= 6 else ""
    return _text((start, ""), (text, ""), (f"   {spark}" if spark else "", "cyan"))


def _table_lines(stage: StageState, width: int, indent: str) -> list[Text]:
    table = stage.table
    if table is None:
        return []
    header, *lines = narrow_table(
        table.columns, [row.cells for row in table.rows], max(NARROWEST, width - len(indent) - 2)
    )
    marks = [("! ", "yellow") if row.warn else ("  ", "") for row in table.rows]
    return [
        _text((indent + "  ", ""), (header, "dim")),
        *(
            _text((indent, ""), (sign, style), (line, style))
            for line, (sign, style) in zip(lines, marks, strict=True)
        ),
    ]


class LiveView:
    """Owns a terminal through rich while a step is open."""

    def __init__(self, console: RichConsole, stdout_is_terminal: bool) -> None:
        self._console = console
        self._redirect_stdout = stdout_is_terminal
        self._roots: list[StageState] = []
        self._live: Live | None = None
        self._glyphs = UNICODE if (console.encoding or "").lower().startswith("utf") else ASCII

    def opened(self, stage: StageState) -> None:
        """Show it, and start drawing with the first."""
        if stage.parent is None:
            self._roots.append(stage)
        if self._live is None:
            from rich.live import Live

            self._live = Live(
                get_renderable=self._draw,
                console=self._console,
                refresh_per_second=8,
                transient=True,
                redirect_stdout=self._redirect_stdout,
                vertical_overflow="crop",
            )
            self._live.start()

    def updated(self, stage: StageState) -> None:
        """Nothing: the next frame shows it."""

    def noted(self, stage: StageState, text: str) -> None:
        """Nothing: the next frame shows it."""

    def tabled(self, stage: StageState) -> None:
        """Nothing: the next frame shows it."""

    def closed(self, stage: StageState) -> None:
        """Print an outermost step for good; stop drawing after the last."""
        if stage.parent is not None:
            return
        self._roots.remove(stage)
        if not self._roots:
            self.stop()
        for line in block(stage, self._console.width, self._glyphs):
            self._console.print(line, end="\n", highlight=False, no_wrap=False, soft_wrap=True)

    def say(self, text: str, style: str) -> None:
        """Print a line above what is running."""
        self._console.print(f"  {text}", style=style or None, highlight=False, markup=False, soft_wrap=True)

    def stop(self) -> None:
        """Give the terminal back."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _draw(self) -> Text:
        from rich.text import Text

        lines = [
            line for root in tuple(self._roots) for line in block(root, self._console.width, self._glyphs)
        ]
        return Text("\n").join(lines[-max(1, self._console.height - 2) :])


def live_view(stream: TextIO, environ: Mapping[str, str], stdout_is_terminal: bool) -> LiveView:
    """A LiveView on a terminal; colour and width follow NO_COLOR, TERM and COLUMNS."""
    from rich.console import Console as RichConsole

    console = RichConsole(file=stream, force_terminal=True, _environ=environ)
    return LiveView(console, stdout_is_terminal)
