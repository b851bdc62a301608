"""Waiting that is seen and has an end: how long trainings gave no sign of life, and what they wait for."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tutelage.errors import TrainError

PATIENCE_S = 900.0
"""As `ray.patience_s` where no job says otherwise."""
LOOK_S = 2.0
"""Time between two looks."""
STALE_S = 15.0
"""A silence that is worth a word; workers give a sign of life every few seconds, whatever they do."""
Cpus = Callable[[], tuple[float, float]]
"""CPUs of the cluster: free, and all."""


def cluster_cpus() -> tuple[float, float]:
    """What Ray says of the cluster just now."""
    import ray

    free: Callable[[], dict[str, float]] = ray.available_resources
    every: Callable[[], dict[str, float]] = ray.cluster_resources
    return free().get("CPU", 0.0), every().get("CPU", 0.0)


def needs(cpus: float, found: tuple[float, float]) -> str:
    """`; it waits for 1.5 CPUs, and 0 of 2 are free`; nothing where that is not what is missing."""
    free, every = found
    return "" if free >= cpus else f"; it waits for {cpus:g} CPUs, and {free:g} of {every:g} are free"


@dataclass
class _Life:
    cpus: float
    last: float
    said: str


class Silence:
    """The last sign of life of each training that should run.

    Args:
        patience_s: a silence that is longer ends the training.
        cpus: of the cluster.
        clock: seconds, only ever growing.
    """

    def __init__(
        self, patience_s: float, cpus: Cpus = cluster_cpus, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._patience_s, self._cpus, self._clock = patience_s, cpus, clock
        self._lives: dict[str, _Life] = {}

    def began(self, run: str, cpus: float, said: str = "its worker has not begun") -> None:
        """It waits for workers that take so many CPUs in all; `said` of it until one is heard."""
        self._lives[run] = _Life(cpus, self._clock(), said)

    def ended(self, run: str) -> None:
        """It is over."""
        self._lives.pop(run, None)

    def hear(self, ages: Mapping[str, float]) -> str:
        """Take over the age of the last sign of each topic of a board; gives words for the longest silence.

        The words are empty while all is well.

        Raises:
            TrainError: a silence is longer than the patience.
        """
        now, words = self._clock(), ""
        for topic, age in ages.items():
            life = self._lives.get(topic.partition(":")[0])
            if life is not None and now - age >= life.last:
                life.last, life.said = now - age, "no sign of life"
        for run, life in sorted(self._lives.items(), key=lambda item: item[1].last):
            silent = now - life.last
            if silent < STALE_S:
                break
            said = f"{life.said} for {_time(silent)}{needs(life.cpus, self._cpus())}"
            if silent > self._patience_s:
                raise TrainError(
                    f"{run}: {said}",
                    fix="give the cluster what it waits for and repeat the command, which goes on from the "
                    "last checkpoint; ray.patience_s says how long to wait",
                )
            words = words or said
        return words


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{math.floor(seconds / 60)} min"
