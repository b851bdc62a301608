"""The search: one pass of the teachers, then trials on Ray Tune, until the best is known.

    space -> gate -> searcher proposes -> trial trains from the store -> reports -> scheduler stops or goes on

The same command goes on with a search that was killed: finished trials stay as they are, running ones
continue at their last report.
"""

from __future__ import annotations

import io
import logging
import math
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from actors.distill import student_training
from actors.scoring import LateScorer, Pass, texts_of
from actors.silence import Silence
from actors.workspace import forget
from tune_spaces.search.asking import Asking, proposer
from tune_spaces.search.gate import Gate
from tune_spaces.search.opened import TRIALS, Opened, one_pass
from tune_spaces.search.records import Book, Record, front
from tune_spaces.search.scheduling import domain, scheduler
from tune_spaces.search.terms import check_terms, known_points
from tune_spaces.search.trial import Shared, run_trial, trial_job
from tune_spaces.search.watch import Watch
from tune_spaces.space import Space, own_point
from tutelage.config.search import PB2, PBT, SMALLER_IS_BETTER, SearchConfig
from tutelage.errors import ConfigError, TrainError
from tutelage.files import beginning, filesystem
from tutelage.progress import Progress

LATE_S = 30.0
"""How long a search that is over waits for the count of what its trials asked."""
RETRIES = 2
"""Times that a trial whose process died goes on from its last report."""


@dataclass(frozen=True)
class Searched:
    """What a search found."""

    id: str
    folder: Path
    space: Space
    book: Book
    best: Record
    front: list[Record]
    payloads: int
    """Kinds of signals that were kept for the trials."""
    texts: int
    """Different texts that a trial reads."""
    reused: bool
    """Nothing was trained: the search had come to its end before."""


def mode_of(goal: str) -> str:
    """`min` or `max`."""
    return "min" if goal in SMALLER_IS_BETTER else "max"


def search(opened: Opened, ui: Progress, *, storage: str, fresh: bool = False) -> Searched:
    """Run a search, or go on with it. Needs a connected Ray.

    Raises:
        ConfigError: what cannot be searched, before anything is asked or trained.
        TeacherError: a teacher that is lost.
        TrainError: no trial reached a value.
    """
    space, folder = opened.space, opened.folder
    place = f"{storage}/runs/{opened.id}"
    if fresh:
        forget(space, opened.id)
    if not (folder / TRIALS).exists():
        _forget_state(place)
    check_terms(opened.terms, folder)
    book = Book(folder / TRIALS)
    reused = book.closed
    if not reused:
        book.start()
        _search(opened, book, ui, place)
    best = pick(book, space.job.search)
    if best is None:
        raise TrainError(
            f"search {opened.id}: no trial reached a value; {_last_words(book)}",
            fix="correct the job or search.space; --fresh begins again",
        )
    plain = student_training(space, opened.specs, "", "", {})
    return Searched(
        id=opened.id,
        folder=folder,
        space=opened.searched,
        book=book,
        best=best,
        front=front(list(book.records.values()), space.job.search.goals),
        payloads=len({spec.key for spec in plain.payloads.values()}),
        texts=texts_of(plain, follow=opened.follow),
        reused=reused,
    )


def pick(book: Book, config: SearchConfig) -> Record | None:
    """The best trial that ran to its end and keeps the limits; else the best of those that there are."""
    ranked = book.ranked(config.goals[0])
    for good in (
        [r for r in ranked if r.status == "done" and _good_enough(r, config.limits.accuracy_min)],
        [r for r in ranked if r.status == "done"],
        ranked,
    ):
        if good:
            return good[0]
    return None


def _good_enough(record: Record, least: float | None) -> bool:
    found = record.value("accuracy")
    return least is None or (found is not None and found >= least)


def _search(opened: Opened, book: Book, ui: Progress, place: str) -> None:
    """All trials of one start, into the book; Tune's own state lies below `place`."""
    config = opened.space.job.search
    shared = one_pass(opened, book, ui)
    gate = Gate(opened.space, opened.searched, shared.measured)
    with ui.stage("search") as stage:
        asking, notes = _asking(opened, gate)
        if book.lost:
            notes.append("a line of the trials' records was cut short and is left out")
        # A population takes up checkpoints of trials that are over.
        kept = isinstance(config.stops_by, PBT | PB2)
        forget = None if kept else lambda trial: forget_checkpoints(place, trial)
        watch = Watch(book, asking, config, stage, forget, Silence(opened.space.job.ray.patience_s))
        _run(shared, asking, gate, watch, place)
        notes += [*watch.notes, *([asking.ended] if asking.ended else [])]
        for note in notes:
            stage.note(note)
        if gate.measures:
            _measure_again(opened, gate, book)
        if not book.records and gate.near_miss is not None:
            raise ConfigError(_near_miss(gate), fix="raise search.limits, or search smaller students")
        book.close(asking.refused, notes)
        forget_checkpoints(place)


def _forget_state(place: str) -> None:
    """Remove what Tune kept of a search whose trials are not known any more."""
    files, path = filesystem(f"{place}/tune")
    if files.exists(path):
        files.rm(path, recursive=True)


def forget_checkpoints(place: str, trial: str | None = None) -> None:
    """Remove what trials have left to go on from: it takes far more room than all else of a search."""
    files, path = filesystem(f"{place}/tune")
    trials = (
        [one for one in beginning(files, path, "") if files.isdir(one)]
        if trial is None
        else [f"{path}/{trial}"]
    )
    for folder in [found for one in trials for found in beginning(files, one, "checkpoint_")]:
        with suppress(OSError):  # Tune may be removing it
            files.rm(folder, recursive=True)


def _measure_again(opened: Opened, gate: Gate, book: Book) -> None:
    """Time the students of the front, now that no training takes their cores."""
    space, searched = opened.space, opened.searched
    for record in front(list(book.records.values()), space.job.search.goals):
        job = trial_job(space.job, searched, searched.point(record.labels))
        book.measure(record.id, gate.cost(job, again=True))


def _near_miss(gate: Gate) -> str:
    assert gate.near_miss is not None
    over, labels, found = gate.near_miss
    figures = ", ".join(f"{key} {value:.3g}" for key, value in found.items())
    limits = ", ".join(f"{key} {value:g}" for key, value in gate.limits.items())
    return (
        f"search.limits ({limits}): no student keeps them; the nearest has {figures}, "
        f"{over:.2f} times the limit: {labels}"
    )


def _last_words(book: Book) -> str:
    errors = [record.error for record in book.records.values() if record.error]
    refused = [why for _, why in book.refused]
    return next(iter([*errors[-1:], *refused[-1:]]), "none was tried")


def _asking(opened: Opened, gate: Gate) -> tuple[Asking, list[str]]:
    """The searcher: it begins with the job as it is, and with what earlier searches found."""
    space, searched = opened.space, opened.searched
    config = space.job.search
    modes = [mode_of(goal) for goal in config.goals]
    notes, first = [], []
    own = own_point(space.job, searched)
    if own is not None and config.searcher.type != "grid":
        first.append(searched.labels(own))
    known, guesses = known_points(space, searched, opened.terms) if config.warm_start else ([], [])
    if known or guesses:
        notes.append(f"begins with {len(known)} trials and {len(guesses)} guesses of earlier searches")
    best = max(known, key=lambda one: one.values[0] * (1 if modes[0] == "max" else -1), default=None)
    first += [labels for labels in ([best.labels] if best else []) + guesses if labels not in first]
    source = proposer(searched, config, modes, space.job.seed, known)
    return Asking(source, gate, first, config.goals, modes), notes


def _run(shared: Shared, asking: Asking, gate: Gate, watch: Watch, place: str) -> None:
    """The trials, with Tune's own state below `place`."""
    import ray
    from ray import tune

    from tune_spaces.search.sinks import sinks

    config = shared.space.job.search
    remote: Any = ray.remote
    scorer = remote(LateScorer).options(num_cpus=0)
    scorer = scorer.remote(shared.space, shared.specs, shared.measured, shared.follow)
    population = isinstance(config.stops_by, PBT | PB2)
    shared = replace(shared, scorer=scorer, place=f"{place}/tune")
    going_on = _can_resume(place)
    given: dict[str, Any] = {"search_alg": asking, "config": {}}
    if population:
        given = {"search_alg": None if going_on else _population(shared, asking, config.trials)}
        given["config"] = {key: domain(one) for key, one in shared.searched.keys.items()}
    with _contained():
        analysis: Any = tune.run(
            tune.with_parameters(run_trial, shared=shared),
            name="tune",
            storage_path=place,
            # Tune's own names hold every value, and are too long for a file system where there are many.
            trial_dirname_creator=lambda trial: trial.trial_id,
            resources_per_trial={"cpu": config.cpus_per_trial, "gpu": config.gpus_per_trial},
            num_samples=config.trials,
            scheduler=scheduler(
                config, shared.searched, mode_of(config.goals[0]), gate, shared.space.job.seed
            ),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=_kept(config)),
            callbacks=[watch, *sinks(config, shared.space.runs / shared.search, watch.note)],
            max_concurrent_trials=config.concurrent,
            max_failures=RETRIES,
            raise_on_failed_trial=False,
            reuse_actors=True,
            resume="AUTO+ERRORED",
            verbose=0,
            **given,
        )
    watch.know(analysis.trials)  # where all were over before, Tune has made no step
    try:
        late: Pass = ray.get(scorer.total.remote(), timeout=LATE_S)
    except ray.exceptions.GetTimeoutError:  # busy for trials that were stopped
        watch.note("what trials that were stopped had asked late is not counted")
    else:
        if late.calls:
            watch.asked(late.calls, late.texts)
    ray.kill(scorer)
    if watch.unfinished():
        raise KeyboardInterrupt


def _kept(config: SearchConfig) -> int:
    """Checkpoints of a trial: those that a snapshot of some seconds ago, or another trial, may still want."""
    one = config.stops_by
    return 3 + (math.ceil(one.interval * config.reports) if isinstance(one, PBT | PB2) else 0)


def _population(shared: Shared, asking: Asking, trials: int) -> Any:
    """The first values of a population, each of which passed the gate."""
    from ray.tune.search.basic_variant import BasicVariantGenerator

    points = []
    for n in range(trials):
        labels = asking.suggest(f"population-{n}")
        if not isinstance(labels, dict):
            raise ConfigError(f"search: {asking.ended}", fix="widen search.space, or lower search.trials")
        points.append(labels)
    return BasicVariantGenerator(
        points_to_evaluate=points, max_concurrent=shared.space.job.search.concurrent or 0
    )


def _can_resume(place: str) -> bool:
    """Whether an earlier start has left a snapshot: Tune writes one every few seconds."""
    files, path = filesystem(f"{place}/tune")
    return bool(beginning(files, path, "experiment_state-"))


@contextmanager
def _contained() -> Iterator[None]:
    """Tune prints a box of its settings even when told to print nothing, and keeps the handler of Ctrl-C."""
    given = {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "TUNE_GLOBAL_CHECKPOINT_S": "2"}
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    main = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGUSR1)}
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
        for number, handler in handlers.items() if main else ():
            signal.signal(number, handler)
