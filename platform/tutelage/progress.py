"""What long work says of itself while it runs; the console, tests and notebooks listen in their own way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    cells: tuple[str, ...]
    warn: bool = False
    """Whether a person should look at it."""


@dataclass(frozen=True)
class Table:
    """A small table of the parts of a step; what matters most stands left, for narrow terminals."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]


class Stage(Protocol):
    """One visible step of a command."""

    def update(self, done: float, total: float, **figures: float | str) -> None:
        """Say how far it is (`done` of `total`, any unit) and what it measures (`loss=0.31`)."""

    def note(self, text: str) -> None:
        """Say one line that stays on the screen."""

    def table(self, table: Table) -> None:
        """Show this under the step, in place of the table before."""

    def waits(self, text: str) -> None:
        """Say what the step waits for; empty when it goes on."""


class Progress(Protocol):
    """Opens stages; a stage that ends by an exception is shown as failed."""

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Run the body as the visible step `name`, with its time."""
        ...


class _SilentStage:
    def update(self, done: float, total: float, **figures: float | str) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def table(self, table: Table) -> None:
        pass

    def waits(self, text: str) -> None:
        pass


class Silent:
    """The twin for tests and library use: nothing is shown."""

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Run the body."""
        yield _SilentStage()
