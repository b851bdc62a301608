"""Where a trial begins: the newest whole checkpoint of its own, or the one that a population gives it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tune_spaces.search.trial import STATE, go_on, run_trial, status_of
from tutelage.errors import RefusedError, StoreError, TeacherError, TrainError

pytestmark = pytest.mark.unit

VALUES = {"train.lr": 0.1}


class Engine:
    """Remembers what it took up; a folder with `broken` in its name cannot be."""

    def __init__(self) -> None:
        self.loaded: list[str] = []

    def load(self, folder: Path) -> None:
        if "broken" in folder.name:
            raise TrainError("holds no engine state")
        self.loaded.append(folder.name)


def checkpoint(folder: Path, name: str, step: int, trial: str = "a", values: Any = None) -> str:
    path = folder / name
    path.mkdir()
    lineage = [{"progress": 0.0, "values": values or VALUES, "trial": trial}]
    state = {"step": step, "points": [], "best": None, "stale": 0, "stopped_early": False, "seconds": 1.0}
    (path / STATE).write_text(json.dumps({"state": state, "lineage": lineage}))
    return str(path)


def begun(given: str | None, own: list[str]) -> tuple[int, bool, list[str]]:
    engine = Engine()
    start = go_on(engine, given, own, "a", VALUES)
    return start.state.step, start.unheard, engine.loaded


def test_a_first_trial_begins_at_its_beginning() -> None:
    assert begun(None, []) == (0, False, [])


def test_its_own_newest_goes_before_the_one_that_a_snapshot_names(tmp_path: Path) -> None:
    named, newer = checkpoint(tmp_path, "named", 5), checkpoint(tmp_path, "newer", 10)
    assert begun(named, [newer, named]) == (10, True, ["newer"])
    assert begun(named, [named]) == (5, False, ["named"])
    assert begun(None, [newer]) == (10, True, ["newer"])


def test_one_that_was_cut_short_is_passed_over(tmp_path: Path) -> None:
    whole = checkpoint(tmp_path, "whole", 5)
    (tmp_path / "empty").mkdir()
    broken = checkpoint(tmp_path, "broken", 10)
    assert begun(None, [str(tmp_path / "empty"), broken, whole]) == (5, True, ["whole"])
    assert begun(whole, [broken]) == (5, False, ["whole"])


@pytest.mark.parametrize("other", [{"trial": "b"}, {"values": {"train.lr": 0.2}}], ids=["trial", "values"])
def test_what_a_population_gives_goes_before_all_of_its_own(tmp_path: Path, other: dict[str, Any]) -> None:
    own, given = checkpoint(tmp_path, "own", 10), checkpoint(tmp_path, "given", 5, **other)
    assert begun(given, [own]) == (5, False, ["given"])


def test_weights_that_were_to_be_taken_over_and_are_gone_are_an_error(tmp_path: Path) -> None:
    given = checkpoint(tmp_path, "broken", 5, trial="b")
    with pytest.raises(TrainError, match="was to take over cannot be read"):
        begun(given, [checkpoint(tmp_path, "own", 10)])


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (MemoryError(), "out-of-memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "out-of-memory"),
        (TrainError("tiny: the loss is nan at step 3"), "failed"),
    ],
)
def test_a_training_that_fails_says_how(error: BaseException, status: str) -> None:
    assert status_of(error) == status


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (KeyError("label"), True),
        (TrainError("the loss is nan"), True),
        (RefusedError("status 400", status=400), True),
        (OSError("disk"), False),
        (StoreError("s3://signals: no answer from the disk"), False),
        (TeacherError("no answer in 3 attempts: disk"), False),
    ],
)
def test_what_a_trial_would_say_again_is_its_result_and_no_trial_is_repeated_for_it(
    monkeypatch: pytest.MonkeyPatch, error: Exception, result: bool
) -> None:
    """What may be well the next time is left to Tune, which starts the trial again."""
    import ray.tune

    def fails(*_: Any) -> None:
        raise error

    told: list[dict[str, Any]] = []
    monkeypatch.setattr("tune_spaces.search.trial._train", fails)
    monkeypatch.setattr(ray.tune, "report", told.append)
    shared: Any = None
    if result:
        run_trial({}, shared)
        assert told[0]["status"] == "failed"
        assert str(error.args[0]) in told[0]["error"]
    else:
        with pytest.raises(type(error), match="disk"):
            run_trial({}, shared)
        assert told == []
