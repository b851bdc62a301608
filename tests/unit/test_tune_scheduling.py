"""Which trials go on: the schedulers of the job decide as they are said to, from a trial's own reports."""

from __future__ import annotations

from typing import Any

import pytest
from ray.tune.schedulers import TrialScheduler

from tests.unit.tune_samples import CARD, RATE, tune_job
from tune_spaces.ready_made import space_of
from tune_spaces.search.asking import Verdict
from tune_spaces.search.scheduling import scheduler

pytestmark = pytest.mark.unit

GO, STOP = TrialScheduler.CONTINUE, TrialScheduler.STOP


class Trial:
    """What a scheduler looks at of a trial."""

    def __init__(self, name: str) -> None:
        self.trial_id, self.config, self.status = name, {"train.lr": 1e-4}, "RUNNING"

    def is_finished(self) -> bool:
        return False


class Controller:
    """All trials of a search."""

    def __init__(self, trials: list[Trial]) -> None:
        self._trials = trials

    def get_live_trials(self) -> set[Trial]:
        return set(self._trials)


def made(choice: dict[str, Any] | None, goal: str = "accuracy", **space: Any) -> Any:
    keys = space or {"train.lr": RATE}
    job = tune_job(search={"space": keys, "scheduler": choice, "goals": [goal]})
    mode = "max" if goal == "accuracy" else "min"
    return scheduler(job.search, space_of(job, CARD), mode, lambda labels: Verdict(), 0)


def decisions(one: Any, reports: list[tuple[str, dict[str, float]]]) -> dict[str, str]:
    """The last decision for each trial, which reports until it is stopped."""
    trials = {name: Trial(name) for name, _ in reports}
    controller = Controller(list(trials.values()))
    for trial in trials.values():
        one.on_trial_add(controller, trial)
    found: dict[str, str] = {}
    for name, result in reports:
        if found.get(name) != STOP:
            told = {"training_iteration": 1, "time_total_s": 1.0, **result}
            found[name] = one.on_trial_result(controller, trials[name], told)
    return found


def at(progress: float, accuracy: float = 0.5, fidelity: float = 0.1) -> dict[str, float]:
    return {"progress": progress, "accuracy": accuracy, "loss": 1 - accuracy, "fidelity": fidelity}


@pytest.mark.parametrize("goal", ["accuracy", "loss"])
def test_halving_lets_the_better_share_go_on(goal: str) -> None:
    reports = [
        (name, at(25, accuracy)) for name, accuracy in (("a", 0.8), ("b", 0.6), ("c", 0.65), ("d", 0.9))
    ]
    found = decisions(made({"type": "asha", "grace": 0.25, "reduction": 2}, goal), reports)
    assert found == {"a": GO, "b": STOP, "c": STOP, "d": GO}


def test_nobody_is_halved_within_the_grace_or_without_a_scheduler() -> None:
    reports = [(name, at(20, accuracy)) for name, accuracy in (("a", 0.8), ("b", 0.1), ("c", 0.1))]
    assert set(decisions(made({"type": "asha", "grace": 0.25}), reports).values()) == {GO}
    late = [(name, at(75, accuracy)) for name, accuracy in (("a", 0.8), ("b", 0.1), ("c", 0.1))]
    assert set(decisions(made({"type": "none"}), late).values()) == {GO}


def test_a_student_that_follows_its_teachers_worse_than_the_median_is_stopped() -> None:
    """Its accuracy, which is the best here, does not count."""
    reports = [
        ("a", at(50, 0.6, 0.1)),
        ("b", at(50, 0.6, 0.2)),
        ("c", at(50, 0.6, 0.3)),
        ("d", at(50, 0.9, 0.9)),
    ]
    found = decisions(made({"type": "fidelity", "grace": 0.25, "least": 3}), reports)
    assert (found["a"], found["d"]) == (GO, STOP)


def test_nobody_is_compared_with_too_few_or_too_early() -> None:
    few = [("a", at(50, fidelity=0.1)), ("b", at(50, fidelity=0.9))]
    assert decisions(made({"type": "fidelity", "least": 3}), few)["b"] == GO
    early = [(name, at(10, fidelity=0.1)) for name in "abc"] + [("d", at(10, fidelity=0.9))]
    assert decisions(made({"type": "fidelity", "grace": 0.25}), early)["d"] == GO


def test_a_population_moves_ranges_within_their_ends_and_choices_to_neighbours() -> None:
    weights = {"type": "choice", "values": [0.25, 0.5, 1.0]}
    one = made(
        {"type": "pbt", "resample": 0.0}, **{"train.lr": RATE, "objectives.cross-entropy.weight": weights}
    )
    start = {"train.lr": 1e-3, "objectives.cross-entropy.weight": 0.5}
    moved = [one._get_new_config(None, Moved(start))[0] for _ in range(20)]
    assert all(1e-5 <= values["train.lr"] <= 1e-3 for values in moved)
    assert {values["objectives.cross-entropy.weight"] for values in moved} == {0.25, 1.0}


def test_a_bandit_knows_the_ends_of_its_ranges() -> None:
    one = made({"type": "pb2", "interval": 0.5})
    assert one._hyperparam_bounds == {"train.lr": [1e-5, 1e-3]}
    assert one._perturbation_interval == 50


class Moved:
    """A trial whose values are copied."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
