"""Sinks: what they write, and that none of them can end a search."""

from __future__ import annotations

import builtins
import threading
import time
from pathlib import Path
from typing import Any, cast

import pytest

from tune_spaces.search.sinks import Guarded, sinks
from tutelage.config.search import SearchConfig

pytestmark = pytest.mark.unit


class Broken:
    def on_trial_start(self, **info: Any) -> None:
        raise OSError("disk full")

    def on_trial_result(self, **info: Any) -> None:
        raise AssertionError("it is asked nothing any more")


class Trial:
    """What MLflow's callback looks at."""

    trial_id, config = "t0", {"train.lr": 0.1}

    def init_local_path(self) -> None:
        pass


def test_a_sink_that_fails_falls_silent_and_says_so_once() -> None:
    notes: list[str] = []
    guarded = Guarded("paper", Broken(), notes.append)
    guarded.on_trial_start(iteration=1, trials=[], trial=None)
    guarded.on_trial_result(iteration=1, trials=[], trial=None, result={})
    guarded.on_experiment_end(trials=[])
    assert notes == ["sink paper is left out from here on: it failed: disk full"]


class Hanging:
    """As MLflow whose server takes connections and never answers."""

    def __init__(self) -> None:
        self.asked, self.over = 0, threading.Event()

    def setup(self, **info: Any) -> None:
        self.asked += 1
        self.over.wait(60)


def test_a_sink_that_hangs_holds_nothing_up_and_says_so_once() -> None:
    """Neither an event nor the end waits for it longer than the deadline; nothing else is asked of it."""
    notes: list[str] = []
    hanging = Hanging()
    guarded = Guarded("paper", hanging, notes.append, deadline_s=0.2)
    guarded.setup()
    guarded.on_trial_start(iteration=1, trials=[], trial=None)
    assert notes == []
    guarded.on_experiment_end(trials=[])
    guarded.on_experiment_end(trials=[])
    assert notes == ["sink paper is left out from here on: it gave no answer for 0.2 s"]
    hanging.over.set()
    assert hanging.asked == 1


def test_a_sink_that_hangs_is_noticed_while_trials_run() -> None:
    notes: list[str] = []
    hanging = Hanging()
    guarded = Guarded("paper", hanging, notes.append, deadline_s=0.05)
    guarded.setup()
    for _ in range(1000):
        guarded.on_trial_result(iteration=1, trials=[], trial=None, result={})
        if notes:
            break
        time.sleep(0.01)
    assert notes == ["sink paper is left out from here on: it gave no answer for 0.05 s"]
    hanging.over.set()


def test_a_sink_that_is_not_installed_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = builtins.__import__

    def without(name: str, *given: Any, **named: Any) -> Any:
        if name.startswith("ray.air.integrations.mlflow"):
            raise ImportError("no mlflow here")
        return whole(name, *given, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    notes: list[str] = []
    assert sinks(SearchConfig(sinks=["mlflow"]), tmp_path, notes.append) == []
    assert notes == ["sink mlflow is left out: no mlflow here"]


@pytest.mark.filterwarnings("ignore")  # mlflow uses what SQLAlchemy 2.1 warns of
def test_mlflow_keeps_values_and_results_of_each_trial(tmp_path: Path) -> None:
    import mlflow

    notes: list[str] = []
    (sink,) = cast("list[Guarded]", sinks(SearchConfig(sinks=["mlflow"]), tmp_path, notes.append))
    trial = Trial()
    sink.setup()
    sink.on_trial_start(iteration=0, trials=[trial], trial=trial)
    result = {"accuracy": 0.75, "training_iteration": 1, "config": trial.config, "timesteps_total": 1}
    sink.on_trial_result(iteration=1, trials=[trial], trial=trial, result=result)
    sink.drain()
    assert notes == []
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name(tmp_path.name).experiment_id])
    assert run.data.params == {"train.lr": "0.1"}
    assert run.data.metrics["accuracy"] == 0.75


def test_tensorboard_files_stand_in_the_folder_of_each_trial(tmp_path: Path) -> None:
    notes: list[str] = []
    (sink,) = cast("list[Guarded]", sinks(SearchConfig(sinks=["tensorboard"]), tmp_path, notes.append))
    trial = Trial()
    trial.local_path, trial.evaluated_params = str(tmp_path), trial.config  # type: ignore[attr-defined]
    sink.setup()
    sink.on_trial_start(iteration=0, trials=[trial], trial=trial)
    result = {"accuracy": 0.75, "training_iteration": 1, "timesteps_total": 1, "time_total_s": 1.0}
    sink.on_trial_result(iteration=1, trials=[trial], trial=trial, result=result)
    sink.on_trial_complete(iteration=1, trials=[trial], trial=trial)
    sink.drain()
    assert notes == []
    (file,) = tmp_path.glob("events.out.tfevents.*")
    assert b"accuracy" in file.read_bytes()


def test_mlflow_is_left_out_where_its_url_would_name_another_file(tmp_path: Path) -> None:
    notes: list[str] = []
    assert sinks(SearchConfig(sinks=["mlflow"]), tmp_path / "a?b", notes.append) == []
    assert "set search.mlflow_uri" in notes[0]
