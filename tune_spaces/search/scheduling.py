"""Which trials go on: Ray Tune's schedulers, fed with progress in percent of each trial's own budget."""

from __future__ import annotations

import random
from typing import Any

from tune_spaces.search.asking import Check, Labels
from tune_spaces.space import Space, label
from tutelage.config.search import ASHA, PB2, PBT, Choice, Fidelity, IntRange, NoScheduler, SearchConfig
from tutelage.errors import ConfigError

END = 101.0
"""Above all progress, so that every trial ends by itself, in order."""


def scheduler(config: SearchConfig, space: Space, mode: str, check: Check, seed: int) -> Any:
    """The scheduler of the job. Raises ConfigError for a space that it cannot search."""
    from ray.tune import schedulers

    goal, one = config.goals[0], config.stops_by
    match one:
        case NoScheduler():
            fifo: Any = schedulers.FIFOScheduler  # Ray leaves it unannotated
            return fifo()
        case ASHA():
            return schedulers.AsyncHyperBandScheduler(
                time_attr="progress",
                metric=goal,
                mode=mode,
                max_t=END,  # type: ignore[arg-type]  # any number serves
                grace_period=max(1.0, 100 * one.grace),  # type: ignore[arg-type]
                reduction_factor=one.reduction,
            )
        case Fidelity():
            return schedulers.MedianStoppingRule(
                time_attr="progress",
                metric="fidelity",
                mode="min",
                grace_period=100 * one.grace,
                min_samples_required=one.least,
            )
        case PBT() | PB2():
            check_movable(one.type, space)
            random.seed(seed)  # both draw from the module's generator
            return _population(one, goal, mode, space, check)


def check_movable(kind: str, space: Space) -> None:
    """Raise ConfigError for a key that cannot change while a training runs."""
    for key in space.keys:
        ends = key.rpartition(".")[2]
        movable = key == "train.lr" or (key.startswith("objectives.") and ends in ("weight", "temperature"))
        if not movable:
            raise ConfigError(
                f"search.scheduler {kind} changes values while trainings run, and {key} cannot change then",
                fix="search train.lr and weights and temperatures of objectives alone, or use scheduler asha",
            )
        if kind == "pb2" and isinstance(space.keys[key], Choice):
            raise ConfigError(
                f"search.scheduler pb2 needs ranges, and {key} is a choice",
                fix="use scheduler pbt, or a range",
            )


def _population(one: PBT | PB2, goal: str, mode: str, space: Space, check: Check) -> Any:
    from ray.tune import schedulers
    from ray.tune.schedulers import pb2

    common: dict[str, Any] = {
        "time_attr": "progress",
        "metric": goal,
        "mode": mode,
        "perturbation_interval": 100 * one.interval,
        "quantile_fraction": one.quantile,
        "custom_explore_fn": Bounded(space, check),
        "log_config": False,
    }
    if isinstance(one, PB2):
        bounds: dict[str, Any] = {
            key: [value.low, value.high] for key, value in space.keys.items() if not isinstance(value, Choice)
        }
        return pb2.PB2(hyperparam_bounds=bounds, **common)
    return schedulers.PopulationBasedTraining(
        hyperparam_mutations={key: _mutation(value) for key, value in space.keys.items()},
        resample_probability=one.resample,
        **common,
    )


class Bounded:
    """Keeps a moved point inside the space; one that cannot stand together is drawn back to its middle."""

    def __init__(self, space: Space, check: Check) -> None:
        self._space, self._check = space, check

    def __call__(self, labels: Labels) -> Labels:
        kept = {key: _inside(self._space.keys[key], labels[key]) for key in self._space.keys}
        if not self._check(kept).refused:
            return {**labels, **kept}
        middle = next(iter(self._space.grid(3)))
        for key, value in self._space.labels(middle).items():
            kept[key] = value
            if not self._check(kept).refused:
                break
        return {**labels, **kept}


def _mutation(one: Any) -> Any:
    """How a value is moved: to a neighbour in the list of a choice, else by a factor."""
    return [label(value) for value in one.values] if isinstance(one, Choice) else domain(one)


def _inside(one: Any, value: Any) -> Any:
    if isinstance(one, Choice):
        return value
    kept = min(max(value, one.low), one.high)
    return round(kept) if isinstance(one, IntRange) else float(kept)


def domain(one: Any) -> Any:
    """A searched value as a domain of Ray Tune."""
    from ray import tune

    match one:
        case Choice():
            return tune.choice([label(value) for value in one.values])
        case IntRange():
            return tune.lograndint(one.low, one.high + 1) if one.log else tune.randint(one.low, one.high + 1)
        case _:
            return tune.loguniform(one.low, one.high) if one.log else tune.uniform(one.low, one.high)
