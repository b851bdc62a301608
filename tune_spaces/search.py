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

from actors.distill import student_training, teacher_specs
from actors.evaluate import Asked, judgeable, labelled_rows, measure_teachers, student_examples
from actors.finetune import Finetuned
from actors.scoring import LateScorer, Pass, check_store, on_demand, score, texts_of
from actors.teacher import TeacherSpec
from actors.workspace import Workspace, forget
from tune_spaces.asking import Asking, proposer, random_point
from tune_spaces.gate import MEASURED, SHARED, Gate, check_payloads
from tune_spaces.records import Book, Record, front
from tune_spaces.scheduling import check_movable, domain, scheduler
from tune_spaces.space import Space, check_space, own_point, words_of
from tune_spaces.spaces import space_of
from tune_spaces.terms import Terms, check_terms, known_points, terms_of
from tune_spaces.trial import Shared, run_trial, trial_job
from tune_spaces.watch import Watch
from tutelage.config.search import PB2, PBT, SMALLER_IS_BETTER, Fidelity, SearchConfig
from tutelage.errors import ConfigError, TrainError
from tutelage.progress import Progress

TRIALS = "trials.jsonl"
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


def searched_space(space: Workspace) -> Space:
    """What the job searches, checked. Raises ConfigError for a key or value that no trial can have."""
    job = space.job
    found = space_of(job, space.student)
    for key in (*found.keys, *found.base):
        words = words_of(key)
        payload = words[0] == "teachers" and len(words) > 2 and words[2] == "payload"
        if (words[0] in SHARED and not payload) or words[:2] in (
            ("student", "model"),
            ("student", "tokenizer"),
        ):
            raise ConfigError(
                f"search.space: {key} is the same for all trials, which share teachers, rows and tokens",
                fix="search keys of combiner, objectives, student, train, on_policy, or teachers.*.payload",
            )
    check_space(job, found, random_point(found, job.seed))
    if isinstance(job.search.stops_by, PBT | PB2):
        check_movable(job.search.stops_by.type, found)
    if not len(labelled_rows(student_examples(space), "validation")):
        raise ConfigError(
            f"search.goals: no trial can report {job.search.goals[0]}, since no validation row has a label",
            fix="give a source with labels `splits: {validation: ...}`, or label some rows",
        )
    if isinstance(job.search.stops_by, Fidelity) and not job.teachers:
        raise ConfigError(
            "search.scheduler fidelity: there is no teacher to follow", fix="use scheduler asha or none"
        )
    asks = {*job.search.goals, *(k for k, v in job.search.limits.model_dump().items() if v is not None)}
    if asks & {"latency_ms", "size_mb"} and job.task.type not in MEASURED:
        raise ConfigError(
            f"search: latency and size are those of {', '.join(MEASURED)}, and task.type is {job.task.type}",
            fix="leave latency_ms and size_mb out of search.goals and search.limits",
        )
    trial_job(job, found, {})
    if job.on_policy is not None:
        raise ConfigError(
            "on_policy: its texts are new in every trial, so trials cannot share what teachers said of them",
            fix="search with on_policy=null, then distill with it",
        )
    return found


def search(
    space: Workspace, finetuned: dict[str, Finetuned], ui: Progress, *, storage: str, fresh: bool = False
) -> Searched:
    """Run the job's search, or go on with it. Needs a connected Ray.

    Raises:
        ConfigError: what cannot be searched, before anything is asked or trained.
        TeacherError: a teacher that is lost.
        TrainError: no trial reached a value.
    """
    searched = searched_space(space)
    specs = teacher_specs(space, finetuned)
    terms = terms_of(space, searched, specs)
    folder = space.runs / terms.id
    if fresh:
        forget(space, terms.id)
    if not (folder / TRIALS).exists():
        _forget_state(f"{storage}/runs/{terms.id}")
    check_terms(terms, folder)
    book = Book(folder / TRIALS)
    reused = book.closed
    if not reused:
        book.start()
        _search(space, searched, specs, terms, book, ui, storage)
    best = pick(book, space.job.search)
    if best is None:
        raise TrainError(
            f"search {terms.id}: no trial reached a value; {_last_words(book)}",
            fix="correct the job or search.space; --fresh begins again",
        )
    plain = student_training(space, specs, "", "", {})
    return Searched(
        id=terms.id,
        folder=folder,
        space=searched,
        book=book,
        best=best,
        front=front(list(book.records.values()), space.job.search.goals),
        payloads=len({spec.key for spec in plain.payloads.values()}),
        texts=texts_of(plain, follow=isinstance(space.job.search.stops_by, Fidelity)),
        reused=reused,
    )


def pick(book: Book, config: SearchConfig) -> Record | None:
    """The best trial that ran to its end and keeps the limits; else the best of those that there are."""
    ranked = book.ranked(config.goals[0])
    least = config.limits.accuracy_min or 0.0
    for good in (
        [r for r in ranked if r.status == "done" and (r.value("accuracy") or 0.0) >= least],
        [r for r in ranked if r.status == "done"],
        ranked,
    ):
        if good:
            return good[0]
    return None


def _search(
    space: Workspace,
    searched: Space,
    specs: list[TeacherSpec],
    terms: Terms,
    book: Book,
    ui: Progress,
    storage: str,
) -> None:
    """All trials of one start, into the book."""
    shared = _prepare(space, searched, specs, terms, book, ui, storage)
    gate = Gate(space, searched, shared.measured)
    with ui.stage("search") as stage:
        asking, notes = _asking(space, searched, gate, terms)
        place = f"{storage}/runs/{terms.id}"
        # A population takes up checkpoints of trials that are over.
        kept = isinstance(space.job.search.stops_by, PBT | PB2)
        forget = None if kept else lambda trial: forget_checkpoints(place, trial)
        watch = Watch(book, asking, space.job.search, stage, forget)
        _run(shared, asking, gate, watch, place)
        notes += [*watch.notes, *([asking.ended] if asking.ended else [])]
        for note in notes:
            stage.note(note)
        if gate.measures:
            _measure_again(space, searched, gate, book)
        if not book.records and gate.near_miss is not None:
            raise ConfigError(_near_miss(gate), fix="raise search.limits, or search smaller students")
        book.close(asking.refused, notes)
        forget_checkpoints(place)


def _forget_state(place: str) -> None:
    """Remove what Tune kept of a search whose trials are not known any more."""
    from fsspec.core import url_to_fs

    files, path = url_to_fs(f"{place}/tune")
    if files.exists(path):
        files.rm(path, recursive=True)


def forget_checkpoints(place: str, trial: str = "*") -> None:
    """Remove what trials have left to go on from: it takes far more room than all else of a search."""
    from fsspec.core import url_to_fs

    files, path = url_to_fs(f"{place}/tune/{trial}")
    for folder in files.glob(f"{path}/checkpoint_*"):
        with suppress(OSError):  # Tune may be removing it
            files.rm(folder, recursive=True)


def _measure_again(space: Workspace, searched: Space, gate: Gate, book: Book) -> None:
    """Time the students of the front, now that no training takes their cores."""
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


def _prepare(
    space: Workspace,
    searched: Space,
    specs: list[TeacherSpec],
    terms: Terms,
    book: Book,
    ui: Progress,
    storage: str,
) -> Shared:
    """The one pass: measure teachers where a combiner may need it, and put all signals into the store."""
    job = space.job
    training = student_training(space, specs, terms.id, storage, {})
    check_payloads(training.payloads)
    follow = isinstance(job.search.stops_by, Fidelity) and bool(specs)
    check_store(training, follow=follow)
    fleet = on_demand(space, specs)
    measured: dict[str, dict[str, float]] = {}
    try:
        if _may_measure(space, searched):
            with ui.stage("measure") as stage:
                measured = measure_teachers(
                    Asked(space, judgeable(specs), fleet.members, space.signals), stage
                )
            training = student_training(space, specs, terms.id, storage, measured)
        with ui.stage("score") as stage:
            asked = score(training, fleet.members, stage.update, follow=follow)
            book.asked(asked.calls, asked.texts)
            total = sum(asked.texts.values())
            stage.note(
                f"{total} texts scored in {sum(asked.calls.values())} teacher calls"
                if total
                else "the store has every signal: no teacher is asked"
            )
    finally:
        fleet.stop()
    scored = frozenset((name, spec.key) for name, spec in training.payloads.items())
    return Shared(terms.id, space, searched, specs, measured, scored, follow=follow)


def _may_measure(space: Workspace, searched: Space) -> bool:
    """Whether some trial may weigh teachers by what they are worth on the validation rows."""
    combiners = {k: v for k, v in searched.keys.items() if words_of(k)[0] == "combiner"}
    texts = [str(searched.base.get("combiner", "")), *(str(one.model_dump()) for one in combiners.values())]
    return len(space.job.teachers) > 1 and (
        space.job.combiner.type == "validated" or any("validated" in text for text in texts)
    )


def _asking(space: Workspace, searched: Space, gate: Gate, terms: Terms) -> tuple[Asking, list[str]]:
    """The searcher: it begins with the job as it is, and with what earlier searches found."""
    config = space.job.search
    modes = [mode_of(goal) for goal in config.goals]
    notes, first = [], []
    own = own_point(space.job, searched)
    if own is not None and config.searcher.type != "grid":
        first.append(searched.labels(own))
    known, guesses = known_points(space, searched, terms) if config.warm_start else ([], [])
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

    from tune_spaces.sinks import sinks

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
    late: Pass = ray.get(scorer.total.remote())
    ray.kill(scorer)
    if late.calls:
        watch.asked(late.calls, late.texts)
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
    from fsspec.core import url_to_fs

    files, path = url_to_fs(f"{place}/tune")
    return bool(files.glob(f"{path}/experiment_state-*.json"))


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
