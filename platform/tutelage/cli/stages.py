"""The state of the visible steps of a command, apart from how they are shown."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from tutelage.progress import Table

Status = Literal["running", "done", "failed", "stopped"]
Clock = Callable[[], float]

HISTORY = 512
"""Points kept of the loss; when full, every second one is dropped."""


@dataclass(eq=False)
class StageState:
    """One step: its time, how far it is, what it measures. Changed under the console's lock only."""

    name: str
    parent: StageState | None
    clock: Clock
    started: float = 0.0
    ended: float | None = None
    status: Status = "running"
    done: float = 0.0
    total: float = 0.0
    figures: dict[str, float | str] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    table: Table | None = None
    waiting: str = ""
    """What it waits for: then nothing is foretold."""
    children: list[StageState] = field(default_factory=list)
    _first: tuple[float, float] | None = None
    _stride: int = 1
    _skipped: int = 0

    def __post_init__(self) -> None:
        self.started = self.clock()
        if self.parent is not None:
            self.parent.children.append(self)

    @property
    def full_name(self) -> str:
        """The names from the outermost step to this one."""
        return f"{self.parent.full_name}/{self.name}" if self.parent else self.name

    @property
    def root(self) -> StageState:
        """The outermost step around this one."""
        return self.parent.root if self.parent else self

    @property
    def seconds(self) -> float:
        """Time since the start, or from start to end."""
        return (self.clock() if self.ended is None else self.ended) - self.started

    @property
    def share(self) -> float | None:
        """How far it is, 0 to 1; None when no total is known."""
        return min(1.0, max(0.0, self.done / self.total)) if self.total > 0 else None

    @property
    def left(self) -> float | None:
        """Seconds to go at the pace so far; None until two seconds have shown a pace."""
        if self._first is None or self.total <= 0 or self.ended is not None or self.waiting:
            return None
        time, done = self._first
        spent, gained = self.clock() - time, self.done - done
        if spent < 2 or gained <= 0:
            return None
        return max(0.0, (self.total - self.done) * spent / gained)

    def update(self, done: float, total: float, figures: dict[str, float | str]) -> None:
        """Take over what a step says of itself."""
        if self._first is None or done < self.done:
            self._first = (self.clock(), done)
        self.done, self.total = done, total
        self.figures.update(figures)
        loss = figures.get("loss")
        if isinstance(loss, int | float) and math.isfinite(loss):
            self._keep(float(loss))

    def close(self, status: Status) -> None:
        """The step is over."""
        self.ended = self.clock()
        self.status = status

    def _keep(self, loss: float) -> None:
        self._skipped += 1
        if self._skipped >= self._stride:
            self._skipped = 0
            self.losses.append(loss)
        if len(self.losses) >= HISTORY:
            self.losses = self.losses[::2]
            self._stride *= 2


class View(Protocol):
    """How steps are shown. Called under the console's lock, in the order of events."""

    def opened(self, stage: StageState) -> None:
        """A step began."""

    def updated(self, stage: StageState) -> None:
        """A step said how far it is."""

    def noted(self, stage: StageState, text: str) -> None:
        """A step said a line."""

    def tabled(self, stage: StageState) -> None:
        """A step has a new table."""

    def closed(self, stage: StageState) -> None:
        """A step ended."""

    def say(self, text: str, style: str) -> None:
        """A line that belongs to no step."""

    def stop(self) -> None:
        """Leave the terminal as it was."""
