"""One pass in which the teachers score all texts of a job, before trials that read the signals begin.

Trials that start together would each ask a text that none has flushed yet; after this pass they find every
text in the signal store and ask nobody. Teacher calls are then texts x teachers x payloads, however many
trials there are. Shapes: N rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.distill import student_training
from actors.evaluate import batches_of
from actors.fleet import Fleet, threads_of
from actors.members import Members
from actors.on_demand import FleetOnDemand
from actors.stream import SignalStream
from actors.teacher import TeacherSpec
from actors.training import Training
from actors.worker import open_stream
from actors.workspace import Workspace
from tutelage.data.examples import Examples
from tutelage.errors import ConfigError
from tutelage.signals.sizes import position_bytes
from tutelage.signals.store.open import open_store

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Pass:
    """What one pass asked of each teacher."""

    calls: dict[str, int]
    """Questions, of up to 32 texts each."""
    texts: dict[str, int]
    """Different texts that were scored."""

    def __add__(self, other: Pass) -> Pass:
        return Pass(_sum(self.calls, other.calls), _sum(self.texts, other.texts))


def score(
    training: Training,
    members: Mapping[str, Members],
    tell: Callable[[float, float], None] | None = None,
    *,
    follow: bool = False,
) -> Pass:
    """Put every signal that the training will hear into the store.

    Args:
        training: names payloads, stores and rows.
        members: who may be asked; nobody is where nothing is missing.
        tell: called with the rows that are done, and all.
        follow: the validation rows too, for trials that measure how closely students follow.
    """
    examples = Examples.open(training.examples)
    rows = rows_of(training, examples, follow=follow)
    missing = _missing(training, examples, rows)
    stream = open_stream(training, dict(members), examples)
    done = 0
    for batch, _ in stream.pair(batches_of(examples, missing)):
        done += len(batch.rows)
        if tell:
            tell(done, len(missing))
    stream.flush()
    return _asked(stream)


def rows_of(training: Training, examples: Examples, *, follow: bool) -> Rows:
    """Every row whose signals a trial reads: the train rows, and to follow teachers the validation rows."""
    chosen = examples.select("train", training.picks).rows
    if not follow:
        return chosen
    held_out = examples.select("validation", sources=training.slices).rows
    return np.concatenate([chosen, held_out])


def _missing(training: Training, examples: Examples, rows: Rows) -> Rows:
    """The first row of each text that some teacher has not scored."""
    digests = examples.digests(rows)
    config = training.stream.store
    lacking: set[bytes] = set()
    for name in training.payloads:
        store = open_store(config, Path(training.stores[name]), name)
        lacking |= {digests[n] for n in store.missing(digests)}
    first = {digest: row for row, digest in zip(rows[::-1], digests[::-1], strict=True)}
    return np.array([first[digest] for digest in dict.fromkeys(digests) if digest in lacking], np.int64)


def _asked(stream: SignalStream) -> Pass:
    counted = {channel.name: channel.counters for channel in stream.channels}
    return Pass(
        {name: counters.calls for name, counters in counted.items()},
        {name: counters.examples for name, counters in counted.items()},
    )


def texts_of(training: Training, *, follow: bool) -> int:
    """Different texts whose signals a trial reads."""
    examples = Examples.open(training.examples)
    return len(set(examples.digests(rows_of(training, examples, follow=follow))))


def check_store(training: Training, *, follow: bool) -> None:
    """Raise ConfigError where the store cannot hold what trials share."""
    store = training.stream.store
    if not store.enabled:
        raise ConfigError(
            "stream.store.enabled is false: every trial would ask every teacher again",
            fix="stream.store.enabled=true",
        )
    if store.max_gb is None:
        return
    examples = Examples.open(training.examples)
    positions = int(examples.positions(rows_of(training, examples, follow=follow)).sum())
    share = 1 / max(1, len(training.payloads))
    need = positions * sum(position_bytes(spec, share) for spec in training.payloads.values()) / 1e9
    if need > store.max_gb:
        raise ConfigError(
            f"stream.store.max_gb is {store.max_gb:g}, and the signals that trials share take {need:.2f} GB: "
            "what is dropped would be asked again",
            fix=f"stream.store.max_gb={1.2 * need:.1f}",
        )


class LateScorer:
    """Scores for trials that need payloads which no pass has made yet; an actor, so one pass at a time.

    Trials hold the CPUs while they wait, so on CPUs its teachers reserve none and share the cores.
    """

    def __init__(
        self,
        space: Workspace,
        specs: list[TeacherSpec],
        measured: dict[str, dict[str, float]],
        follow: bool,
    ) -> None:
        self._space, self._specs, self._measured, self._follow = space, specs, measured, follow
        self._total = Pass({}, {})

    def ensure(self, job: Any) -> Pass:
        """Score what this job's training lacks. Raises TeacherError and what a wrong payload raises."""
        space = replace(self._space, job=job)
        fleet = on_demand(space, self._specs, reserve=False)
        try:
            training = student_training(space, self._specs, "late", "", self._measured)
            found = score(training, fleet.members, follow=self._follow)
        finally:
            fleet.stop()
        self._total += found
        return found

    def total(self) -> Pass:
        """What all calls asked so far."""
        return self._total


def on_demand(space: Workspace, specs: list[TeacherSpec], *, reserve: bool = True) -> FleetOnDemand:
    """The fleet of the job's teachers, not started; without `reserve` teachers on CPUs reserve none."""
    plans = []
    by_name = {teacher.name: teacher for teacher in space.job.teachers}
    for spec in specs:
        config = by_name[spec.name]
        if not reserve and not config.num_gpus:
            config = config.model_copy(update={"num_cpus": 0.0, "threads": threads_of(config)})
        plans.append((spec, config))
    return FleetOnDemand(
        lambda: Fleet(plans, space.job.stream), {spec.name: by_name[spec.name].batch_tokens for spec in specs}
    )


def _sum(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}
