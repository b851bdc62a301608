"""The views without rich: plain lines for logs and pipes, and none at all."""

from __future__ import annotations

import math
from typing import TextIO

from tutelage.cli.stages import Clock, StageState
from tutelage.cli.text import duration, number

EVERY_S = 5.0
"""A running step writes at most one line in this time."""

TABLE_EVERY_S = 10.0
"""A running step writes each row of its table at most once in this time."""

ETA_FROM_S = 5.0
"""Less than this to go is not worth saying."""


def progress_words(stage: StageState) -> str:
    """`25 %  loss 0.412  38 s left`."""
    words = [] if stage.share is None else [f"{stage.share:4.0%}".replace("%", " %")]
    words += [f"{name} {number(value)}" for name, value in stage.figures.items()]
    if stage.left is not None and stage.left > ETA_FROM_S:
        words.append(f"{duration(math.ceil(stage.left))} left")
    if stage.waiting:
        words.append(stage.waiting)
    return "  ".join(words).strip()


class PlainView:
    """Each line stands for itself and starts with the name of its step."""

    def __init__(self, stream: TextIO, clock: Clock) -> None:
        self._stream = stream
        self._clock = clock
        self._last: dict[int, float] = {}
        self._tabled: dict[int, float] = {}

    def opened(self, stage: StageState) -> None:
        """Write that it began."""
        self._last[id(stage)] = self._tabled[id(stage)] = self._clock()
        self._write(f"{stage.full_name}: started")

    def updated(self, stage: StageState) -> None:
        """Write how far it is, at most every EVERY_S seconds."""
        now = self._clock()
        words = progress_words(stage)
        if words and now - self._last[id(stage)] >= EVERY_S:
            self._last[id(stage)] = now
            self._write(f"{stage.full_name}: {words}")

    def noted(self, stage: StageState, text: str) -> None:
        """Write the note."""
        self._write(f"{stage.full_name}: {text}")

    def tabled(self, stage: StageState) -> None:
        """Write a line for each row, at most every TABLE_EVERY_S seconds."""
        now = self._clock()
        if now - self._tabled[id(stage)] >= TABLE_EVERY_S:
            self._tabled[id(stage)] = now
            self._write_table(stage)

    def closed(self, stage: StageState) -> None:
        """Write its last table, how it ended, and its time."""
        self._last.pop(id(stage), None)
        self._tabled.pop(id(stage), None)
        self._write_table(stage)
        figures = "".join(f"  {name} {number(value)}" for name, value in stage.figures.items())
        words = {"done": "done in", "failed": "failed after", "stopped": "stopped after"}
        self._write(f"{stage.full_name}: {words[stage.status]} {duration(stage.seconds)}{figures}")

    def say(self, text: str, style: str) -> None:
        """Write the line."""
        self._write(text)

    def stop(self) -> None:
        """Nothing is held."""

    def _write_table(self, stage: StageState) -> None:
        for row in stage.table.rows if stage.table else ():
            assert stage.table is not None
            words = [f"{name} {cell}" for name, cell in zip(stage.table.columns, row.cells, strict=True)]
            self._write(f"{stage.full_name}: {'! ' if row.warn else ''}{', '.join(words)}")

    def _write(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()


class QuietView:
    """Shows nothing but warnings."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def opened(self, stage: StageState) -> None:
        """Nothing."""

    def updated(self, stage: StageState) -> None:
        """Nothing."""

    def noted(self, stage: StageState, text: str) -> None:
        """Nothing."""

    def tabled(self, stage: StageState) -> None:
        """Nothing."""

    def closed(self, stage: StageState) -> None:
        """Nothing."""

    def say(self, text: str, style: str) -> None:
        """Write warnings only."""
        if style == "yellow":
            self._stream.write(text + "\n")
            self._stream.flush()

    def stop(self) -> None:
        """Nothing is held."""
