"""A search before its first trial: what is searched, checked; its teachers and terms; and their one pass."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from actors.distill import student_training, teacher_specs
from actors.evaluate import Asked, judgeable, labelled_rows, measure_teachers, student_examples
from actors.finetune import Finetuned
from actors.scoring import check_store, on_demand, score
from actors.teacher import TeacherSpec
from actors.workspace import Workspace
from tune_spaces.ready_made import space_of
from tune_spaces.search.asking import random_point
from tune_spaces.search.gate import MEASURED, SHARED, check_payloads
from tune_spaces.search.records import Book
from tune_spaces.search.scheduling import check_movable
from tune_spaces.search.terms import Terms, terms_of
from tune_spaces.search.trial import Shared, trial_job
from tune_spaces.space import Space, check_space, words_of
from tutelage.config.search import PB2, PBT, Fidelity
from tutelage.errors import ConfigError
from tutelage.progress import Progress

TRIALS = "trials.jsonl"


@dataclass(frozen=True)
class Opened:
    """The search of a job whose teachers are made."""

    space: Workspace
    searched: Space
    specs: list[TeacherSpec]
    terms: Terms

    @property
    def id(self) -> str:
        """Run id."""
        return self.terms.id

    @property
    def folder(self) -> Path:
        """Where it leaves what it finds."""
        return self.space.runs / self.id

    @property
    def closed(self) -> bool:
        """Whether it has come to its end before."""
        return Book(self.folder / TRIALS).closed

    @property
    def follow(self) -> bool:
        """Whether trials measure how closely students follow their teachers."""
        return isinstance(self.space.job.search.stops_by, Fidelity)


def open_search(space: Workspace, finetuned: dict[str, Finetuned]) -> Opened:
    """Check the job's search, and name it. Raises ConfigError as `searched_space`."""
    searched, specs = searched_space(space), teacher_specs(space, finetuned)
    return Opened(space, searched, specs, terms_of(space, searched, specs))


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


def one_pass(opened: Opened, book: Book, ui: Progress) -> Shared:
    """Measure teachers where a combiner may need it, and put all signals into the store.

    Raises ConfigError for a store or payloads that trials cannot share, TeacherError for a lost teacher.
    """
    space, specs = opened.space, opened.specs
    training = student_training(space, specs, opened.id, "", {})
    check_payloads(training.payloads)
    check_store(training, follow=opened.follow)
    fleet = on_demand(space, specs)
    measured: dict[str, dict[str, float]] = {}
    try:
        if _may_measure(space, opened.searched):
            with ui.stage("measure") as stage:
                measured = measure_teachers(
                    Asked(space, judgeable(specs), fleet.members, space.signals), stage
                )
            training = student_training(space, specs, opened.id, "", measured)
        with ui.stage("score") as stage:
            asked = score(training, fleet.members, stage.update, follow=opened.follow)
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
    return Shared(opened.id, space, opened.searched, specs, measured, scored, follow=opened.follow)


def _may_measure(space: Workspace, searched: Space) -> bool:
    """Whether some trial may weigh teachers by what they are worth on the validation rows."""
    combiners = {k: v for k, v in searched.keys.items() if words_of(k)[0] == "combiner"}
    texts = [str(searched.base.get("combiner", "")), *(str(one.model_dump()) for one in combiners.values())]
    return len(space.job.teachers) > 1 and (
        space.job.combiner.type == "validated" or any("validated" in text for text in texts)
    )
