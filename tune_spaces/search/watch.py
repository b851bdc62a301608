"""What happens in a search, written down and shown: the only place that hears Tune's events."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from ray.tune import Callback

from actors.reasons import reason
from actors.silence import PATIENCE_S, Silence
from tune_spaces.search.asking import Asking
from tune_spaces.search.records import FINAL, Book, Record
from tutelage.config.search import SearchConfig, plain
from tutelage.progress import Row, Stage, Table

SHOWN = 8
"""Trials of the live table."""
FORGET_S = 60.0
"""A trial's checkpoints stay so long after its end: a snapshot of the search may still say that it runs."""


class Watch(Callback):
    """Tune's events as lines of the book and rows of a table. It is not saved with the search."""

    def __init__(
        self,
        book: Book,
        asking: Asking,
        config: SearchConfig,
        stage: Stage,
        forget: Callable[[str], None] | None = None,
        silence: Silence | None = None,
    ) -> None:
        """`forget` is told of each trial that needs its checkpoints no more; `silence` bounds waits."""
        self._silence, self._waits = silence or Silence(PATIENCE_S), False
        self._book, self._asking, self._config, self._stage = book, asking, config, stage
        self._forget = forget or (lambda trial: None)
        self._over: deque[tuple[float, str]] = deque()
        """When each trial ended whose checkpoints are still there."""
        self._trials: dict[str, str] = {}
        self.notes: list[str] = []

    def asked(self, calls: dict[str, int], texts: dict[str, int]) -> None:
        """Trials made the teachers score more."""
        self._book.asked(calls, texts)

    def note(self, text: str) -> None:
        """Something that a reader of the report should know."""
        if text not in self.notes:
            self.notes.append(text)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Tune has looked at all its trials."""
        self.know(trials)
        self._look()
        while self._over and time.monotonic() - self._over[0][0] > FORGET_S:
            self._forget(self._over.popleft()[1])

    def _look(self) -> None:
        """Say what trials wait for where none runs. Raises TrainError after too long."""
        waits = "RUNNING" not in self._trials.values() and "PENDING" in self._trials.values()
        if waits and not self._waits:
            self._silence.began("search", self._config.cpus_per_trial, "no trial runs")
        elif not waits:
            self._silence.ended("search")
        self._waits = waits
        self._stage.waits(self._silence.hear({}))

    def know(self, trials: list[Any]) -> None:
        """These are the trials that Tune knows, and how they are."""
        self._trials = {trial.trial_id: trial.status for trial in trials}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial begins, or goes on."""
        known = self._book.records.get(trial.trial_id)
        labels = known.labels if known is not None else dict(trial.config)
        self._book.begin(trial.trial_id, labels, self._asking.measures.get(trial.trial_id, {}))
        self._show()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A trial reports."""
        kept = (
            "accuracy",
            "loss",
            "fidelity",
            "status",
            "error",
            "step",
            "progress",
            "seconds",
            "start_s",
            "lineage",
            "parent",
        )
        # A population gives a trial values that it may never train with; only a report says by which it did.
        stretches = json.loads(result.get("lineage", "[]"))
        labels = stretches[-1]["values"] if stretches else dict(trial.config)
        self._book.begin(trial.trial_id, labels, self._asking.measures.get(trial.trial_id, {}))
        self._book.report(trial.trial_id, {key: result[key] for key in kept if key in result})
        self._show()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial ran to its end, or was stopped."""
        self._book.end(trial.trial_id)
        self._over.append((time.monotonic(), trial.trial_id))
        self._show()

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The process of a trial died more often than is forgiven."""
        error = trial.get_pickled_error()
        self._book.end(trial.trial_id, reason(error) if error else "its process died")
        self._show()

    def unfinished(self) -> bool:
        """Whether trials are left: somebody interrupted the search."""
        if any(status not in ("TERMINATED", "ERROR") for status in self._trials.values()):
            return True
        # A trial that began after the last snapshot of a killed search is not known any more.
        for name in [r.id for r in self._book.records.values() if r.status not in FINAL]:
            self._book.drop(name)
        return len(self._trials) < self._config.trials and not self._asking.ended

    def _show(self) -> None:
        records = list(self._book.records.values())
        goal = self._config.goals[0]
        done = sum(100.0 if r.status in FINAL else r.last.get("progress", 0.0) for r in records)
        best = self._book.ranked(goal)
        figures: dict[str, float | str] = {
            "trials": f"{sum(r.status in FINAL for r in records)} of {self._config.trials}"
        }
        if best:
            figures[f"best {goal}"] = f"{best[0].value(goal):.4g}"
        self._stage.update(done, 100.0 * self._config.trials, **figures)
        running = [r for r in records if r.status == "running"]
        shown = list(dict.fromkeys(r.id for r in [*best[: SHOWN - len(running)], *running]))
        self._stage.table(live_table([self._book.records[one] for one in shown], self._config))


def live_table(records: list[Record], config: SearchConfig) -> Table:
    """The best trials and those that run."""
    keys = list(dict.fromkeys(key for record in records for key in record.labels))
    names = short_names(keys)
    rows = [
        Row(
            (
                str(record.number),
                record.status,
                f"{record.last.get('progress', 0.0):.0f} %",
                *(_figure(record.value(goal)) for goal in config.goals),
                *(cell(record.labels.get(key, "")) for key in keys),
            ),
            warn=record.status in ("failed", "out-of-memory"),
        )
        for record in records
    ]
    return Table(("trial", "", "ran", *config.goals, *names), tuple(rows))


def short_names(keys: list[str]) -> list[str]:
    """The last words of each key, as many as tell them apart."""
    words = [key.split(".") for key in keys]
    names = []
    for one in words:
        for count in range(1, len(one) + 1):
            name = ".".join(one[-count:])
            if sum(".".join(other[-count:]) == name for other in words) == 1:
                break
        names.append(name)
    return names


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def cell(value: Any) -> str:
    """A searched value in a table of the terminal."""
    text = f"{value:.3g}" if isinstance(value, float) else plain(value)
    return text if len(text) <= 24 else text[:23] + "…"
