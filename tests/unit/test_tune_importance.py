"""What mattered in a search: right where it is known, and silent where nothing can be told."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from typing import Any

import pytest

from tune_spaces.search.importance import FEWEST, importances
from tutelage.report.search.figures import SearchedKey, TrialFigures

pytestmark = pytest.mark.unit

KEYS = [
    SearchedKey(key="lr", kind="log", low=1e-5, high=1e-2),
    SearchedKey(key="noise", kind="float", low=0, high=1),
    SearchedKey(key="kind", kind="choice", values=["a", {"b": [1, 2]}, None]),
    SearchedKey(key="size", kind="int", low=1, high=64),
]


def trials(number: int, worth: Callable[[dict[str, Any]], float], **changed: Any) -> list[TrialFigures]:
    """Trials at random places whose accuracy is what `worth` says."""
    draw = random.Random(7)
    found = []
    for n in range(number):
        values = {
            "lr": 10 ** draw.uniform(-5, -2),
            "noise": draw.random(),
            "kind": draw.choice(KEYS[2].values),
            "size": draw.randint(1, 64),
        }
        figures = {"id": str(n), "number": n, "status": "done", "values": values, "metric": worth(values)}
        found.append(TrialFigures.model_validate(figures | {"accuracy": worth(values)} | changed))
    return found


def by_lr(values: dict[str, Any]) -> float:
    """Only the learning rate counts, and by its logarithm."""
    return 0.8 - 0.02 * (math.log10(values["lr"]) + 3.5) ** 2


def test_one_key_that_decides_everything():
    """It has nearly the whole share, the others next to nothing; the same seed says the same."""
    started = time.perf_counter()
    found, note = importances(KEYS, trials(64, by_lr), "accuracy")
    assert time.perf_counter() - started < 10  # about one second on a quiet core
    assert found[0].key == "lr"
    assert found[0].mean > 0.9
    assert max(item.mean for item in found[1:]) < 0.06
    assert sum(item.mean for item in found) == pytest.approx(1)
    assert all(item.low <= item.mean <= item.high for item in found[:1])
    assert note.startswith("From 64 finished trials. A forest explains")
    assert importances(KEYS, trials(64, by_lr), "accuracy") == (found, note)


def test_a_choice_with_nested_values():
    """A mapping, a text and null are told apart, beside a number of half the weight."""
    worth = lambda v: 0.5 + 0.1 * (v["kind"] == {"b": [1, 2]}) + 0.0008 * v["size"]  # noqa: E731
    found, _ = importances(KEYS, trials(60, worth), "accuracy")
    assert [item.key for item in found[:2]] == ["kind", "size"]
    assert found[1].mean > 0.02
    assert found[1].mean > found[2].mean


def test_noise_is_said_to_say_little():
    """Where no key matters, the note warns or the list is empty."""
    draw = random.Random(3)
    found, note = importances(KEYS, trials(30, lambda _: draw.random()), "accuracy")
    assert "say little" in note or found == []


@pytest.mark.parametrize(
    ("count", "worth", "said"),
    [(FEWEST - 1, by_lr, "too few"), (20, lambda _: 0.5, "the same accuracy"), (0, by_lr, "too few")],
)
def test_too_little_is_known(count: int, worth: Callable[[dict[str, Any]], float], said: str):
    """No list and the reason."""
    found, note = importances(KEYS, trials(count, worth), "accuracy")
    assert found == []
    assert said in note
    assert importances([], trials(20, by_lr), "accuracy") == ([], "No key was searched.")


def test_failed_trials_are_left_out_and_stopped_ones_told():
    """A failed trial, or one without a number, changes nothing; stopped ones are counted in the note."""
    good = trials(16, by_lr)
    lost = trials(5, lambda _: 0.0, status="failed") + trials(3, by_lr, metric=math.nan, accuracy=math.nan)
    assert importances(KEYS, good + lost, "accuracy") == importances(KEYS, good, "accuracy")
    stopped = trials(12, by_lr, status="stopped")
    _, note = importances(KEYS, good[12:] + stopped, "accuracy")
    assert "From 16 finished trials, 12 of them with the accuracy at which they were stopped" in note


def test_missing_and_odd_values_are_no_error():
    """A key that some trials lack, one that no trial has, and one that never changes."""
    some = [
        one.model_copy(update={"values": {"lr": one.values["lr"]} if one.number % 2 else one.values})
        for one in trials(20, by_lr)
    ]
    keys = [*KEYS, SearchedKey(key="absent", kind="log"), SearchedKey(key="wide", kind="choice")]
    some = [one.model_copy(update={"values": one.values | {"wide": [one.number]}}) for one in some]
    found, _ = importances(keys, some, "accuracy")
    assert found[0].key == "lr"
    assert next(item for item in found if item.key == "absent").mean == 0
