"""Sinks: what they write, and that none of them can end a search."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

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
    assert notes == ["sink paper failed and is left out: disk full"]


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
    (sink,) = sinks(SearchConfig(sinks=["mlflow"]), tmp_path, notes.append)
    trial = Trial()
    sink.setup()
    sink.on_trial_start(iteration=0, trials=[trial], trial=trial)
    result = {"accuracy": 0.75, "training_iteration": 1, "config": trial.config, "timesteps_total": 1}
    sink.on_trial_result(iteration=1, trials=[trial], trial=trial, result=result)
    assert notes == []
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name(tmp_path.name).experiment_id])
    assert run.data.params == {"train.lr": "0.1"}
    assert run.data.metrics["accuracy"] == 0.75


def test_tensorboard_files_stand_in_the_folder_of_each_trial(tmp_path: Path) -> None:
    notes: list[str] = []
    (sink,) = sinks(SearchConfig(sinks=["tensorboard"]), tmp_path, notes.append)
    trial = Trial()
    trial.local_path, trial.evaluated_params = str(tmp_path), trial.config  # type: ignore[attr-defined]
    sink.setup()
    sink.on_trial_start(iteration=0, trials=[trial], trial=trial)
    result = {"accuracy": 0.75, "training_iteration": 1, "timesteps_total": 1, "time_total_s": 1.0}
    sink.on_trial_result(iteration=1, trials=[trial], trial=trial, result=result)
    sink.on_trial_complete(iteration=1, trials=[trial], trial=trial)
    assert notes == []
    (file,) = tmp_path.glob("events.out.tfevents.*")
    assert b"accuracy" in file.read_bytes()
