"""Who proposes trials, and that nothing which cannot be trained ever becomes one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ray.tune.search import Searcher

from tests.unit.tune_samples import CARD, RATE, SHARP, tune_job
from tune_spaces.ready_made import space_of
from tune_spaces.search.asking import TRIES, Asking, Known, Listed, Verdict, proposer
from tune_spaces.space import Space
from tutelage.config.search import SearchConfig

pytestmark = pytest.mark.unit

SPACE = {"train.lr": RATE, "combiner": SHARP}
UNIFORM, SURE = '{"type": "uniform"}', '{"sharpness": 2.0, "type": "confidence"}'


def searched() -> Space:
    return space_of(tune_job(search={"space": SPACE}), CARD)


def asking(check: Any = lambda labels: Verdict(), first: Any = (), known: Any = (), **search: Any) -> Asking:
    config = SearchConfig.model_validate(search)
    modes = ["max"] * len(config.goals)
    return Asking(proposer(searched(), config, modes, 0, known), check, first, config.goals, modes)


def test_the_given_points_come_first_and_none_comes_twice() -> None:
    mine = {"train.lr": 1e-4, "combiner": UNIFORM}
    found = asking(first=[mine, mine])
    got = [found.suggest(f"t{n}") for n in range(5)]
    assert got[0] == mine
    assert mine not in got[1:]


def test_a_point_that_is_refused_is_no_trial() -> None:
    found = asking(lambda labels: Verdict("too sure" if labels["combiner"] == SURE else ""))
    got = [found.suggest(f"t{n}") for n in range(8)]
    assert {labels["combiner"] for labels in got} == {UNIFORM}
    assert found.refused
    assert all(labels["combiner"] == SURE and why == "too sure" for labels, why in found.refused)


def test_a_searcher_that_finds_nothing_new_ends_and_says_why() -> None:
    found = asking(lambda labels: Verdict("never"))
    assert found.suggest("t0") == Searcher.FINISHED
    assert f"{TRIES} points in a row" in found.ended
    assert "never" in found.ended


def test_a_grid_gives_every_point_and_ends() -> None:
    found = asking(searcher={"type": "grid", "points": 2})
    got = [found.suggest(f"t{n}") for n in range(5)]
    assert [one["train.lr"] for one in got[:4]] == [1e-5, 1e-5, 1e-3, 1e-3]
    assert got[4] == Searcher.FINISHED
    assert "every point" in found.ended


def test_values_lead_the_search_and_failures_do_not() -> None:
    """Small rates fail, the largest is best: later points of a TPE lie higher than its first ones."""
    found = asking(searcher={"type": "tpe", "startup": 8})
    rates = []
    for n in range(40):
        labels = found.suggest(f"t{n}")
        rates.append(labels["train.lr"])
        failed = labels["train.lr"] < 3e-5
        result = {"status": "failed" if failed else "ran", "accuracy": 0.0 if failed else labels["train.lr"]}
        found.on_trial_complete(f"t{n}", result)
        found.on_trial_complete(f"t{n}", result)  # told twice, counted once
    assert sorted(rates[-12:])[6] > 2 * sorted(rates[:8])[4]


def test_what_was_measured_of_a_student_counts_as_a_goal() -> None:
    found = asking(lambda labels: Verdict(measures={"latency_ms": 2.0}), goals=["accuracy", "latency_ms"])
    found.suggest("t0")
    found.on_trial_complete("t0", {"status": "ran", "accuracy": 0.8})
    study = found._propose._study  # type: ignore[attr-defined]
    assert study.trials[0].values == [0.8, 2.0]
    assert found.measures == {"t0": {"latency_ms": 2.0}}


def test_a_search_begins_with_what_is_known() -> None:
    known = [Known({"train.lr": 1e-4, "combiner": UNIFORM}, [0.9])]
    study = asking(known=known)._propose._study  # type: ignore[attr-defined]
    assert [trial.value for trial in study.trials] == [0.9]


def test_a_saved_searcher_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    one, other = asking(), asking()
    for n in range(3):
        one.suggest(f"t{n}")
        one.on_trial_complete(f"t{n}", {"status": "ran", "accuracy": 0.5})
    one.save(str(tmp_path / "state"))
    other.restore(str(tmp_path / "state"))
    assert other.suggest("t3") == one.suggest("t3")


def test_a_list_ends() -> None:
    listed = Listed([{"a": 1}])
    assert listed.next() == (None, {"a": 1})
    assert listed.next() is None
