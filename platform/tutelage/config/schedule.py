"""Numbers that may change in the course of a training, and their value at any point of it. Loads no torch.

Progress is the number of optimiser steps made divided by the number planned: 0 at the first step, and one
step short of 1 at the last.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from tutelage.config.base import Fraction, Section


class Ramp(Section):
    """From one value to another, and level before and after. x: share of the way from begin to until."""

    type: str
    start: float
    """Value up to `begin`."""
    end: float
    """Value from `until` on."""
    begin: Fraction = 0.0
    """Progress at which the value leaves `start`."""
    until: Fraction = 1.0
    """Progress at which the value reaches `end`."""

    @model_validator(mode="after")
    def _takes_some_time(self) -> Ramp:
        if self.begin >= self.until:
            raise ValueError(f"begin is {self.begin:g} and until is {self.until:g}; wants begin below until")
        return self


class Linear(Ramp):
    """A straight line: start + (end - start) x, with x from 0 at `begin` to 1 at `until`."""

    type: Literal["linear"]


class Cosine(Ramp):
    """Half a wave, slow at both ends: start + (end - start) (1 - cos(pi x)) / 2, x as for linear."""

    type: Literal["cosine"]


class Exponential(Ramp):
    """The same factor in equal times: start (end / start)^x, x as for linear."""

    type: Literal["exponential"]
    start: float = Field(gt=0)
    """Value up to `begin`."""
    end: float = Field(gt=0)
    """Value from `until` on."""


class Step(Section):
    """One value after another."""

    type: Literal["step"]
    values: list[float] = Field(min_length=2)
    """Values in the order of time."""
    at: list[Annotated[float, Field(gt=0, lt=1)]] = Field(min_length=1)
    """Progress at which each value but the first begins; rising, one fewer than `values`."""

    @model_validator(mode="after")
    def _values_fit_their_times(self) -> Step:
        if len(self.at) != len(self.values) - 1:
            raise ValueError(
                f"at has {len(self.at)} entries for {len(self.values)} values; wants one fewer than values"
            )
        if any(first >= second for first, second in pairwise(self.at)):
            raise ValueError(f"at is {self.at}; wants rising numbers")
        return self


Schedule = Linear | Cosine | Exponential | Step
Number = float | Schedule


def value_at(number: Number, progress: float) -> float:
    """The value at a progress in [0, 1]; a plain number is itself."""
    if isinstance(number, Step):
        return number.values[bisect_right(number.at, progress)]
    if not isinstance(number, Linear | Cosine | Exponential):
        return number
    if progress <= number.begin:
        return number.start
    if progress >= number.until:
        return number.end
    low, high = extremes(number)
    value = _between(number, (progress - number.begin) / (number.until - number.begin))
    # Rounding must not leave the bounds that the ends were checked for, nor move a level schedule.
    return min(max(value, low), high)


def _between(ramp: Linear | Cosine | Exponential, share: float) -> float:
    """The value after a share, above 0 and below 1, of the way in time."""
    match ramp:
        case Linear():
            return ramp.start + (ramp.end - ramp.start) * share
        case Cosine():
            return ramp.start + (ramp.end - ramp.start) * 0.5 * (1 - math.cos(math.pi * share))
        case Exponential():  # from logarithms, so that no ratio overflows
            return math.exp(math.log(ramp.start) * (1 - share) + math.log(ramp.end) * share)


def extremes(number: Number) -> tuple[float, float]:
    """The smallest and the largest value that is ever taken."""
    values = [value for _, value in _corners(number)]
    return min(values), max(values)


def peak(number: Number) -> float:
    """The largest value that is ever taken; of a weight 0 means that it is never above 0."""
    return extremes(number)[1]


def is_constant(number: Number) -> bool:
    """Whether the value is the same throughout."""
    low, high = extremes(number)
    return low == high


def say(number: Number) -> str:
    """`2`, or `cosine from 4 to 1`, for messages."""
    if isinstance(number, Step):
        return "step through " + ", ".join(f"{value:g}" for value in number.values)
    if isinstance(number, Ramp):
        return f"{number.type} from {number.start:g} to {number.end:g}"
    return f"{number:g}"


def stretch_of_zeros(numbers: Sequence[Number]) -> tuple[float, float] | None:
    """The first stretch of progress throughout which all numbers are 0; None when there is none."""
    edges = {0.0, 1.0}
    for number in numbers:
        match number:
            case Step():
                edges.update(number.at)
            case Ramp():
                edges.update((number.begin, number.until))
    # Between two edges each number is level or strictly rises or falls, so the middle tells of all.
    for begin, end in pairwise(sorted(edges)):
        if all(value_at(number, (begin + end) / 2) == 0 for number in numbers):
            return begin, end
    return None


def _corners(number: Number) -> list[tuple[str, float]]:
    """The values that bound all others, each with its key below the number's own."""
    if isinstance(number, Step):
        return [(f"values.{index}", value) for index, value in enumerate(number.values)]
    if isinstance(number, Ramp):
        return [("start", number.start), ("end", number.end)]
    return [("", number)]


@dataclass(frozen=True)
class _Within:
    """Refuses a schedule that leaves the bounds of its key; plain numbers are checked by pydantic."""

    lowest: float
    highest: float
    wants: str
    open: bool = False
    """The lowest value itself is not allowed."""

    def __call__(self, number: Any) -> Any:
        if isinstance(number, Section):
            schedule: Any = number
            for key, value in _corners(schedule):
                if value > self.highest or value < self.lowest or (self.open and value == self.lowest):
                    raise ValueError(f"{key} is {value:g}; wants {self.wants}")
        return number


def _kind(value: Any) -> str:
    return "schedule" if isinstance(value, dict | Section) else "number"


_Tagged = Annotated[Schedule, Field(discriminator="type"), Tag("schedule")]

# The choice by kind, not by trial, so that a wrong schedule is not also reported as a wrong number.
Weight = Annotated[
    Annotated[float, Field(ge=0), Tag("number")] | _Tagged,
    Discriminator(_kind),
    AfterValidator(_Within(0.0, math.inf, "a number at least 0")),
]
"""Factor of a loss term."""

Temperature = Annotated[
    Annotated[float, Field(gt=0, le=100), Tag("number")] | _Tagged,
    Discriminator(_kind),
    AfterValidator(_Within(0.0, 100.0, "a number above 0 and at most 100", open=True)),
]
"""What logits are divided by before the softmax."""

Rate = Annotated[
    Annotated[float, Field(gt=0, lt=1), Tag("number")] | _Tagged,
    Discriminator(_kind),
    AfterValidator(_Within(0.0, math.nextafter(1, 0), "a number above 0 and below 1", open=True)),
]
"""A learning rate."""
