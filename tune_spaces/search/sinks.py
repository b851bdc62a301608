"""Other places where trials are logged: TensorBoard and MLflow. None can end a search or hold it up."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray.tune import Callback

from tutelage.config.search import SearchConfig

DEADLINE_S = 30.0
"""A sink that is busy with one event for so long is left out; so long may it go on when a search ends."""
_IMPATIENT = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}
"""MLflow's own: 120 s, seven times, with pauses that double."""


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
    """A sink in a thread of its own, which falls silent at its first failure or when it is too slow.

    The search never waits for it while trials run, and at the end no longer than `deadline_s`.
    """

    def __init__(
        self, name: str, inner: Any, note: Callable[[str], None], *, deadline_s: float = DEADLINE_S
    ) -> None:
        self._name, self._inner, self._note, self._deadline_s = name, inner, note, deadline_s
        self._events: queue.Queue[tuple[str, tuple[Any, ...], dict[str, Any]]] = queue.Queue()
        self._lock = threading.Lock()
        self._silent = False
        self._since: float | None = None
        """When the event that the sink is busy with was begun."""
        self._thread = threading.Thread(target=self._run, name=f"sink-{name}", daemon=True)
        self._thread.start()

    def _call(self, event: str, *given: Any, **named: Any) -> None:
        since = self._since
        if since is not None and time.monotonic() - since > self._deadline_s:
            self._give_up(f"gave no answer for {self._deadline_s:g} s")
        if not self._silent:
            self._events.put((event, given, named))

    def drain(self) -> None:
        """Wait until all is written, or for the deadline."""
        end = time.monotonic() + self._deadline_s
        while self._events.unfinished_tasks and not self._silent:
            if time.monotonic() > end:
                self._give_up(f"gave no answer for {self._deadline_s:g} s")
            time.sleep(0.01)

    def _run(self) -> None:
        while True:
            event, given, named = self._events.get()
            if not self._silent:
                self._since = time.monotonic()
                try:
                    getattr(self._inner, event)(*given, **named)
                except Exception as error:  # whatever a logger does wrong, trials go on
                    self._give_up(f"failed: {_line(error)}")
                self._since = None
            self._events.task_done()

    def _give_up(self, why: str) -> None:
        with self._lock:
            first, self._silent = not self._silent, True
        if first:
            self._note(f"sink {self._name} is left out from here on: it {why}")

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
        """All is over; what is still to be written gets its time."""
        self._call("on_experiment_end", *given, **named)
        self.drain()


def _tensorboard() -> Callback:
    from ray.tune import logger

    make: Any = logger.TBXLoggerCallback  # Ray leaves it unannotated
    found: Callback = make()
    return found


def _mlflow(config: SearchConfig, folder: Path) -> Callback:
    import logging

    from ray.air.integrations.mlflow import MLflowLoggerCallback

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    for key, value in _IMPATIENT.items():
        os.environ.setdefault(key, value)
    if config.mlflow_uri is None and "?" in str(folder):
        raise ValueError(f"a URL cannot say {folder}; set search.mlflow_uri, or a home without '?'")
    uri = config.mlflow_uri or f"sqlite:///{folder / 'mlflow.db'}"
    return MLflowLoggerCallback(tracking_uri=uri, experiment_name=folder.name)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
