"""Who proposes trials: Optuna, or a list of points. What cannot be trained never becomes one."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ray.tune.search import Searcher

from tune_spaces.space import Point, Space
from tutelage.config.search import Choice, FloatRange, IntRange, SearchConfig, TPESearch

TRIES = 50
"""Points that are refused in a row before a searcher gives up."""

Labels = dict[str, Any]


@dataclass(frozen=True)
class Verdict:
    """What is known of a point before it is trained."""

    refused: str = ""
    """Why it is not tried."""
    measures: dict[str, float] = field(default_factory=dict)
    """`latency_ms` and `size_mb` of its student, where they matter."""


Check = Callable[[Labels], Verdict]


@dataclass(frozen=True)
class Known:
    """A point that was tried before, in a search of the same terms."""

    labels: Labels
    values: list[float]
    """One for each goal."""


class Asking(Searcher):
    """Proposes points until one passes the check.

    The first ones are given: the job as it is, then what earlier searches found. A point is never tried
    twice. When no new one can be found, the search ends early and `ended` says why.
    """

    def __init__(
        self,
        propose: Proposer,
        check: Check,
        first: Sequence[Labels],
        goals: Sequence[str],
        modes: Sequence[str],
    ) -> None:
        super().__init__(metric=goals[0], mode=modes[0])
        self._propose, self._check, self._goals = propose, check, list(goals)
        self._first = list(first)
        self._seen: set[str] = set()
        self._asked: dict[str, Any] = {}
        self.measures: dict[str, dict[str, float]] = {}
        """Trial -> what was measured of its student before it began."""
        self.refused: list[tuple[Labels, str]] = []
        self.ended = ""

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        """Goals and space are known already."""
        return True

    def suggest(self, trial_id: str) -> Any:
        """The next point that can be trained."""
        for _ in range(TRIES):
            proposal = self._next()
            if proposal is None:
                self.ended = "every point of the space has been proposed"
                return Searcher.FINISHED
            token, labels = proposal
            mark = repr(sorted(labels.items()))
            verdict = Verdict("tried before") if mark in self._seen else self._check(labels)
            if not verdict.refused:
                self._seen.add(mark)
                self._asked[trial_id] = token
                self.measures[trial_id] = verdict.measures
                return labels
            self._propose.fail(token)
            if mark not in self._seen:
                self.refused.append((labels, verdict.refused))
            self._seen.add(mark)
        why = f"the last was refused: {self.refused[-1][1]}" if self.refused else "all were tried before"
        self.ended = f"{TRIES} points in a row cannot be tried; {why}"
        return Searcher.FINISHED

    def _next(self) -> tuple[Any, Labels] | None:
        if self._first:
            return self._propose.given(self._first.pop(0))
        return self._propose.next()

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Only ends count."""

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the proposer, once. A training that failed has no value."""
        token = self._asked.pop(trial_id, None)
        if token is None:
            return
        found = {**(result or {}), **self.measures.get(trial_id, {})}
        if error or found.get("status") != "ran" or any(goal not in found for goal in self._goals):
            self._propose.fail(token)
        else:
            self._propose.tell(token, [float(found[goal]) for goal in self._goals])

    def save(self, checkpoint_path: str) -> None:
        """All of the state but the check, which the next process brings along."""
        from ray import cloudpickle

        dump: Any = cloudpickle.dump  # Ray leaves it unannotated
        kept = {key: value for key, value in self.__dict__.items() if key != "_check"}
        with open(checkpoint_path, "wb") as file:
            dump(kept, file)

    def restore(self, checkpoint_path: str) -> None:
        """Take up what `save` wrote: a file of this search's own folder."""
        from ray import cloudpickle

        with open(checkpoint_path, "rb") as file:
            self.__dict__.update(cloudpickle.load(file))


class Proposer(Protocol):
    """Where points come from."""

    def next(self) -> tuple[Any, Labels] | None:
        """A token and a point; None when there is none left."""
        ...

    def given(self, labels: Labels) -> tuple[Any, Labels]:
        """The same for a point that is given."""
        ...

    def tell(self, token: Any, values: list[float]) -> None:
        """The values of the goals at a proposed point."""

    def fail(self, token: Any) -> None:
        """A proposed point has no values."""


class Listed:
    """Points in a given order."""

    def __init__(self, points: Iterable[Labels]) -> None:
        self._points = list(points)[::-1]

    def next(self) -> tuple[Any, Labels] | None:
        """The next of the list."""
        return (None, self._points.pop()) if self._points else None

    def given(self, labels: Labels) -> tuple[Any, Labels]:
        """The point itself."""
        return None, labels

    def tell(self, token: Any, values: list[float]) -> None:
        """The order does not go by values."""

    def fail(self, token: Any) -> None:
        """The order does not go by failures."""


class Optuna:
    """A study of Optuna, asked and told."""

    def __init__(
        self, space: Space, config: SearchConfig, modes: Sequence[str], seed: int, known: Sequence[Known]
    ) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        logging.getLogger("optuna").setLevel(logging.ERROR)
        searcher = config.searcher
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler: Any = (
                optuna.samplers.TPESampler(
                    seed=seed, n_startup_trials=searcher.startup, multivariate=True, group=True
                )
                if isinstance(searcher, TPESearch)
                else optuna.samplers.RandomSampler(seed=seed)
            )
        directions: Any = ["minimize" if mode == "min" else "maximize" for mode in modes]
        self._study = optuna.create_study(directions=directions, sampler=sampler)
        self._distributions = {key: _distribution(one, optuna) for key, one in space.keys.items()}
        for one in known:
            self._study.add_trial(
                optuna.trial.create_trial(
                    params=one.labels, distributions=self._distributions, values=one.values
                )
            )

    def next(self) -> tuple[Any, Labels] | None:
        """Ask the sampler."""
        trial = self._study.ask(self._distributions)
        return trial.number, dict(trial.params)

    def given(self, labels: Labels) -> tuple[Any, Labels]:
        """Ask for this very point."""
        self._study.enqueue_trial(labels)
        found = self.next()
        assert found is not None
        return found

    def tell(self, token: Any, values: list[float]) -> None:
        """A trial is done."""
        self._study.tell(token, values)

    def fail(self, token: Any) -> None:
        """A trial failed, or was never started.

        A pruned trial is one that the estimator keeps away from; a failed one it would forget. With several
        goals Optuna knows no pruning.
        """
        import optuna

        states = optuna.trial.TrialState
        self._study.tell(token, state=states.PRUNED if len(self._study.directions) == 1 else states.FAIL)


def proposer(
    space: Space, config: SearchConfig, modes: Sequence[str], seed: int, known: Sequence[Known] = ()
) -> Proposer:
    """Who proposes, as the job says."""
    if config.searcher.type == "grid":
        return Listed(space.labels(point) for point in space.grid(config.searcher.points))
    return Optuna(space, config, modes, seed, known)


def random_point(space: Space, seed: int) -> Callable[[], Point]:
    """Draws points of the space."""
    import random

    rng = random.Random(seed)  # noqa: S311  nothing is secret

    def draw() -> Point:
        return {key: _draw(one, rng) for key, one in space.keys.items()}

    return draw


def _draw(one: Any, rng: Any) -> Any:
    import math

    match one:
        case Choice():
            return rng.choice(one.values)
        case IntRange():
            return rng.randint(one.low, one.high)
        case FloatRange(log=True):
            return math.exp(rng.uniform(math.log(one.low), math.log(one.high)))
        case _:
            return rng.uniform(one.low, one.high)


def _distribution(one: Any, optuna: Any) -> Any:
    from tune_spaces.space import label

    kinds = optuna.distributions
    match one:
        case Choice():
            return kinds.CategoricalDistribution([label(value) for value in one.values])
        case IntRange():
            return kinds.IntDistribution(one.low, one.high, log=one.log)
        case _:
            return kinds.FloatDistribution(one.low, one.high, log=one.log)
