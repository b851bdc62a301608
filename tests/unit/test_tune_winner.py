"""The job that a trial stands for, and what makes two searches one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from actors.training import learning_rate
from tests.unit.tune_samples import CARD, RATE, tune_job
from tune_spaces.ready_made import space_of
from tune_spaces.search.asking import Verdict
from tune_spaces.search.records import Book, Record
from tune_spaces.search.scheduling import Bounded, check_movable
from tune_spaces.search.terms import TERMS, Terms, check_terms, known_points
from tune_spaces.search.trial import Lineage, trial_job
from tune_spaces.search.winner import is_own, winner_job
from tutelage.config.schedule import value_at
from tutelage.errors import ConfigError

pytestmark = pytest.mark.unit

SOFTNESS = {"type": "float", "low": 1.0, "high": 8.0, "log": True}
SPACE = {"train.lr": RATE, "objectives.kl.temperature": SOFTNESS}


def labels(lr: float, temperature: float) -> dict[str, Any]:
    return {"train.lr": lr, "objectives.kl.temperature": temperature}


def record(*stretches: tuple[float, str, dict[str, Any]]) -> Record:
    lineage = Lineage()
    for progress, trial, values in stretches:
        lineage.begin(progress, trial, values)
    last = {"step": 9, "progress": 100, "lineage": json.dumps(lineage.stretches)}
    return Record("a", 1, stretches[-1][2], {}, "done", [last])


def test_a_plain_trial_is_the_job_with_its_values() -> None:
    job = tune_job(search={"space": SPACE, "budget": {"epochs": 1}})
    chosen = winner_job(job, space_of(job, CARD), record((0.0, "a", labels(1e-4, 3.0))))
    assert (chosen.train.lr, chosen.objectives[0].temperature) == (1e-4, 3.0)  # type: ignore[union-attr]
    assert chosen.train.epochs == 2  # the full budget
    assert chosen.search.space == {}


def test_a_line_of_trials_becomes_schedules_that_take_the_same_values() -> None:
    job = tune_job(search={"space": SPACE})
    line = record(
        (0.0, "b", labels(1e-4, 3.0)), (0.25, "a", labels(1e-4, 6.0)), (0.75, "c", labels(2e-4, 2.0))
    )
    chosen = winner_job(job, space_of(job, CARD), line)
    softness = chosen.objectives[0].temperature  # type: ignore[union-attr]
    assert [value_at(softness, p) for p in (0, 0.24, 0.25, 0.74, 0.75, 0.99)] == [3, 3, 6, 6, 2, 2]
    # What each trial did at its own steps, one training does again.
    for step, rate in ((0, 1e-4), (99, 1e-4), (300, 2e-4), (399, 2e-4)):
        alone = chosen.train.model_copy(update={"lr": rate})
        assert learning_rate(chosen.train, step, 400) == learning_rate(alone, step, 400)


def test_a_lineage_knows_whose_weights_were_taken() -> None:
    lineage = Lineage()
    lineage.begin(0.0, "b", labels(1e-4, 3.0))
    assert lineage.parent is None
    lineage.begin(0.0, "b", labels(1e-4, 3.0))  # killed and gone on: nothing new
    assert len(lineage.stretches) == 1
    lineage.begin(0.5, "a", labels(2e-4, 3.0))
    assert lineage.parent == "b"


def test_the_job_itself_is_known_among_the_trials() -> None:
    job = tune_job(search={"space": SPACE})
    found = space_of(job, CARD)
    assert is_own(job, found, record((0.0, "a", labels(5e-5, 2.0))))
    assert not is_own(job, found, record((0.0, "a", labels(5e-5, 3.0))))


def test_a_trial_has_one_worker_and_its_budget() -> None:
    job = tune_job(
        search={"space": SPACE, "budget": {"epochs": 1, "max_steps": 7}, "cpus_per_trial": 2},
        train={"epochs": 5, "workers": 2, "batch_size": 8, "threads": 5},
    )
    train = trial_job(job, space_of(job, CARD), labels(1e-4, 3.0)).train
    assert (train.workers, train.epochs, train.max_steps, train.threads, train.cpus_per_worker) == (
        1,
        1,
        7,
        2,
        2,
    )


@pytest.mark.parametrize(
    ("kind", "key", "one", "words"),
    [
        ("pbt", "train.batch_size", {"type": "int", "low": 1, "high": 9}, "batch_size cannot change then"),
        ("pbt", "objectives.kl.temperature.start", SOFTNESS, "cannot change then"),
        ("pb2", "train.lr", {"type": "choice", "values": [1e-4, 1e-3]}, "pb2 needs ranges"),
    ],
)
def test_a_population_moves_only_what_can_move(kind: str, key: str, one: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_movable(kind, space_of(tune_job(search={"space": {key: one}}), CARD))


def test_a_moved_point_stays_in_the_space_and_stands() -> None:
    found = space_of(tune_job(search={"space": SPACE}), CARD)
    bounded = Bounded(found, lambda at: Verdict("too soft" if at["objectives.kl.temperature"] > 4 else ""))
    assert bounded({**labels(5.0, 0.1), "other": 1}) == {**labels(1e-3, 1.0), "other": 1}
    assert bounded(labels(1e-4, 7.0))["objectives.kl.temperature"] <= 4


def test_changed_terms_are_refused_with_the_difference(tmp_path: Path) -> None:
    one = Terms("small", {"search.trials": 8, "search.space.train.lr": {"high": 1e-3}, "data": "d"})
    other = Terms("small", {"search.trials": 8, "search.space.train.lr": {"high": 1e-2}, "data": "d"})
    assert one.id != other.id
    check_terms(one, tmp_path)
    check_terms(one, tmp_path)
    with pytest.raises(ConfigError, match="1 of its terms changed") as caught:
        check_terms(other, tmp_path)
    assert 'search.space.train.lr: {"high": 0.001} -> {"high": 0.01}' in caught.value.problem


@dataclass
class Place:
    """What `known_points` looks at of a workspace."""

    runs: Path
    job: Any


def earlier(place: Place, name: str, facts: dict[str, Any], *trials: tuple[float, float]) -> None:
    folder = place.runs / name
    check_terms(Terms("small", facts), folder)
    book = Book(folder / "trials.jsonl")
    for n, (lr, accuracy) in enumerate(trials):
        book.begin(f"t{n}", labels(lr, 2.0), {})
        result = {"status": "ran", "step": 1, "progress": 100, "accuracy": accuracy, "loss": 1.0}
        book.report(f"t{n}", result)
        book.end(f"t{n}")


def test_a_search_begins_with_what_earlier_ones_found(tmp_path: Path) -> None:
    """Under the same terms values count; under others the best points are guesses; other data is nothing."""
    job = tune_job(search={"space": SPACE})
    place, found = Place(tmp_path, job), space_of(job, CARD)
    facts = {
        "job": "j",
        "data": "d",
        "student": "s",
        "teachers.one": "t",
        "search.goals": ["accuracy"],
        "search.budget": {},
        "search.trials": 3,
    }
    earlier(place, "small-tune-1", {**facts, "search.trials": 9}, (1e-4, 0.7), (5e-1, 0.9))
    earlier(place, "small-tune-2", {**facts, "job": "other"}, (2e-4, 0.6), (3e-4, 0.8))
    earlier(place, "small-tune-3", {**facts, "data": "other"}, (4e-4, 0.99))
    (tmp_path / "small-tune-4").mkdir()
    (tmp_path / "small-tune-4" / TERMS).write_text("{damaged")
    known, guesses = known_points(place, found, Terms("small", facts))  # type: ignore[arg-type]
    assert [(one.labels["train.lr"], one.values) for one in known] == [(1e-4, [0.7])]
    assert [one["train.lr"] for one in guesses] == [3e-4, 2e-4]
