"""Loss terms whose weight or temperature changes in the course of a training.

The arithmetic is in `tutelage.config.schedule`, where a job is validated by it.
"""

from __future__ import annotations

from collections.abc import Sequence

from tutelage.config.objectives import Objective
from tutelage.config.schedule import Number, is_constant, value_at
from tutelage.objectives.base import Term

KEYS = ("weight", "temperature")
"""What may follow a schedule."""


class Schedules:
    """Moves what follows a schedule; terms of plain numbers are never touched."""

    def __init__(self, terms: Sequence[Term], sections: Sequence[Objective]) -> None:
        by_type: dict[str, Objective] = {section.type: section for section in sections}
        self._moving: list[tuple[Term, str, Number]] = []
        for term in terms:
            for key in KEYS:
                number: Number | None = getattr(by_type[term.name], key, None)
                if number is not None and not is_constant(number):
                    self._moving.append((term, key, number))

    def at(self, progress: float) -> dict[str, float]:
        """Set the values of a progress in [0, 1] and return them, as `kl.temperature`.

        They depend on the progress alone. Empty when nothing follows a schedule.
        """
        values: dict[str, float] = {}
        for term, key, number in self._moving:
            value = value_at(number, progress)
            setattr(term, key, value)
            values[f"{term.name}.{key}"] = value
        return values
