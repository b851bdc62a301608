"""Other places where trials are logged: TensorBoard files and MLflow. None of them can end a search."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray.tune import Callback

from tutelage.config.search import SearchConfig


def sinks(config: SearchConfig, folder: Path, note: Callable[[str], None]) -> list[Callback]:
    """The sinks of the job; one that cannot begin is left out, with a note."""
    makers: dict[str, Callable[[], Callback]] = {
        "tensorboard": _tensorboard,
        "mlflow": lambda: _mlflow(config, folder),
    }
    found: list[Callback] = []
    for name in config.sinks:
        try:
            found.append(Guarded(name, makers[name](), note))
        except Exception as error:  # whatever a logger does wrong, trials go on
            note(f"sink {name} is left out: {_line(error)}")
    return found


class Guarded(Callback):
    """A sink that falls silent at its first failure."""

    def __init__(self, name: str, inner: Any, note: Callable[[str], None]) -> None:
        self._name, self._inner, self._note = name, inner, note

    def _call(self, event: str, *given: Any, **named: Any) -> None:
        if self._inner is None:
            return
        try:
            getattr(self._inner, event)(*given, **named)
        except Exception as error:  # as above
            self._inner = None
            self._note(f"sink {self._name} failed and is left out: {_line(error)}")

    def setup(self, *given: Any, **named: Any) -> None:
        """Begin."""
        self._call("setup", *given, **named)

    def on_trial_start(self, *given: Any, **named: Any) -> None:
        """A trial begins."""
        self._call("on_trial_start", *given, **named)

    def on_trial_result(self, *given: Any, **named: Any) -> None:
        """A trial reports."""
        self._call("on_trial_result", *given, **named)

    def on_trial_complete(self, *given: Any, **named: Any) -> None:
        """A trial ends."""
        self._call("on_trial_complete", *given, **named)

    def on_trial_error(self, *given: Any, **named: Any) -> None:
        """A trial fails."""
        self._call("on_trial_error", *given, **named)

    def on_experiment_end(self, *given: Any, **named: Any) -> None:
        """All is over."""
        self._call("on_experiment_end", *given, **named)


def _tensorboard() -> Callback:
    from ray.tune import logger

    make: Any = logger.TBXLoggerCallback  # Ray leaves it unannotated
    found: Callback = make()
    return found


def _mlflow(config: SearchConfig, folder: Path) -> Callback:
    import logging

    from ray.air.integrations.mlflow import MLflowLoggerCallback

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    uri = config.mlflow_uri or f"sqlite:///{folder / 'mlflow.db'}"
    return MLflowLoggerCallback(tracking_uri=uri, experiment_name=folder.name)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
