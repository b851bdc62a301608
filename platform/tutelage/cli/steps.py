"""The steps that verbs are made of; the quickstart is all of them in a row.

Each step takes what the ones before it gave, does nothing twice, and leaves its run in the registry.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutelage.cli.following import check_export
from tutelage.errors import ConfigError, StoreError
from tutelage.files import home
from tutelage.holder import Fence, Holder
from tutelage.run_log import STEPS, run_log

if TYPE_CHECKING:
    from actors.distill import Distilled
    from actors.finetune import Finetuned
    from actors.session import Session
    from actors.tally import Scores
    from actors.workspace import Workspace
    from tutelage.cli.console import Console
    from tutelage.config.load import LoadedJob
    from tutelage.export.agreement import Agreement
    from tutelage.export.student import ExportResult
    from tutelage.registry.registry import Registry
    from tutelage.registry.runs import Status
    from tutelage.registry.versions import Version


LOG = logging.getLogger(STEPS)


@dataclass(frozen=True)
class Job:
    """One command on one job file."""

    loaded: LoadedJob
    console: Console
    home: Path
    registry: Registry

    @property
    def yaml(self) -> str:
        """The whole job, defaults included."""
        from tutelage.config.load import dump_yaml

        return dump_yaml(self.loaded.job)


def open_job(console: Console, path: Path, overrides: list[str] | None, address: str | None = None) -> Job:
    """Read the job file; no model and no row is read yet."""
    from tutelage.cli.quiet import quiet_libraries
    from tutelage.config.load import load_job
    from tutelage.registry.registry import open_registry

    quiet_libraries()
    given = [*(overrides or []), *([f"ray.address={address}"] if address else [])]
    loaded = load_job(path, given)
    place = home()
    return Job(loaded, console, place, open_registry(place))


def prepare(job: Job) -> Workspace:
    """Fetch models and data, check that they fit together, tokenise."""
    from actors.workspace import open_workspace

    return open_workspace(job.loaded.job, job.home, job.console)


def make_teachers(
    job: Job, space: Workspace, session: Session, *, only: list[str] | None = None, fresh: bool = False
) -> dict[str, Finetuned]:
    """Fine-tune the teachers that have a `finetune` section and are not trained yet."""
    from actors.finetune import finetune, finetune_plan

    if only:
        _known(only, [teacher.name for teacher in space.job.teachers if teacher.finetune])
    plan = finetune_plan(space, only)
    todo = [run for _, run, done in plan if fresh or not done or not _recorded_as_done(job, run)]
    with recorded(job, "finetune", todo, fresh=fresh) as figures:
        teachers = finetune(space, job.console, storage=session.storage, only=only, fresh=fresh)
        for teacher in teachers.values():
            figures[teacher.run] = _figures(teacher.result)
    return teachers


def make_student(
    job: Job,
    space: Workspace,
    session: Session,
    teachers: dict[str, Finetuned],
    *,
    fresh: bool = False,
    parent: str | None = None,
) -> Distilled:
    """Distil the teachers into the student; `parent` is the search that chose the job."""
    from actors.distill import JUDGEMENT, distill, teacher_specs
    from actors.workspace import distill_run, finished

    specs = teacher_specs(space, teachers)
    run = distill_run(space, {spec.name: spec.fingerprint for spec in specs})
    whole = finished(space, run) is not None and (space.runs / run / JUDGEMENT).exists()
    todo = [] if whole and not fresh and _recorded_as_done(job, run) else [run]
    with recorded(job, "distill", todo, parent=parent, fresh=fresh) as figures:
        student = distill(space, teachers, job.console, storage=session.storage, fresh=fresh)
        figures[run] = _figures(student.result)
    return student


def _recorded_as_done(job: Job, run: str) -> bool:
    """False also where a process died between the last file of the run and its end in the registry."""
    done = job.registry.runs.list(job=job.loaded.job.name, status="done")
    return any(found.run_id == run for found in done)


@dataclass(frozen=True)
class Exported:
    """A student as files that serve it, checked on rows that no training saw."""

    result: ExportResult
    scores: dict[str, Scores]
    """By runtime: torch, fp32, int8."""
    version: Version


def export_version(
    job: Job, space: Workspace, student: Distilled, *, search: str | None = None, trial: str | None = None
) -> Exported:
    """Write ONNX fp32 and int8, judge them beside torch, and record them as an immutable version.

    `search` and `trial` say who chose the job. Raises GateError when int8 falls short; the fp32 files stay in
    the run's folder.
    """
    check_export(job.loaded.job, fix=f"the trained student is in {student.folder}, for transformers to load")
    out = space.runs / student.run / "export"
    result, scores = export_files(job, space, student.folder, out)
    if space.job.update is not None:
        with job.console.stage("remember") as stage:
            remember(space, student, out, scores["torch"], stage)
    teachers = {spec.name: spec.fingerprint for spec in student.teachers}
    lineage = {"run_id": student.run, "teachers": teachers, "search": search, "trial": trial}
    return Exported(result, scores, record(job, space, out, result, scores, lineage))


def export_files(
    job: Job, space: Workspace, folder: Path, out: Path
) -> tuple[ExportResult, dict[str, Scores]]:
    """A model as ONNX fp32 and int8 in the folder `out`, each judged beside torch. Raises GateError."""
    from actors.judge_student import judge_student
    from tutelage.export.student import export_student

    with job.console.stage("export") as stage:
        judge = judge_student(space, folder)
        result = export_student(folder, out, space.job.export, judge.probe(), stage)
        files = {"fp32": result.fp32} | ({"int8": result.int8} if result.int8 else {})
        scores = {"torch": judge.scores()} | {name: judge.onnx(path) for name, path in files.items()}
        agreed = f", {_int8_words(result.int8_agreement)}" if result.int8_agreement else ""
        stage.note(f"fp32 differs from torch by at most {result.fp32_agreement.max_abs_diff:.1e}{agreed}")
        stage.note(f"processor: {result.processor}")
    return result, scores


def _int8_words(found: Agreement) -> str:
    return f"int8 agrees on {found.share_same_label:.1%} and moves scores by {found.mean_score_diff:.3f}"


def remember(space: Workspace, student: Distilled, out: Path, scores: Scores, stage: Any) -> None:
    """Put beside the exported files what the first update of the version needs. Needs a connected Ray."""
    from actors.evaluate import student_examples
    from actors.update.memory import Trained, first_state

    assert space.job.update is not None
    examples = student_examples(space)
    trained = Trained.of(space, student.run, student.folder, examples, space.job.student.data, scores)
    first_state(trained, space.job.update, out, space.runs / student.run, stage)
    stage.note(f"{sum(path.stat().st_size for path in (out / 'state').rglob('*.*')) / 1e6:.0f} MB of state")


def record(
    job: Job,
    space: Workspace,
    out: Path,
    result: ExportResult,
    scores: dict[str, Scores],
    lineage: dict[str, Any],
) -> Version:
    """Record an export folder as a version."""
    with job.console.stage("record") as stage:
        name = job.loaded.job.name
        version = job.registry.versions.add(name, out, _card(job, space, result, scores, lineage))
        stage.note(f"{name}:{version.id}")
    return version


def _card(
    job: Job,
    space: Workspace,
    result: ExportResult,
    scores: dict[str, Scores],
    lineage: dict[str, Any],
) -> Any:
    from tutelage.cli.surroundings import git_commit, package_versions
    from tutelage.config.load import job_digest
    from tutelage.registry.card import Lineage, VersionCard

    own = job.loaded.job
    sizes = {"fp32": result.fp32_bytes} | ({"int8": result.int8_bytes} if result.int8_bytes else {})
    return VersionCard(
        task=space.job.task.type,
        labels=space.job.task.labels,
        metrics={
            "accuracy": {name: {**found.by_slice, "mean": found.mean} for name, found in scores.items()},
        },
        sizes=sizes,
        lineage=Lineage.model_validate(
            {
                "job_digest": job_digest(own),
                "config_yaml": job.yaml,
                "data_fingerprint": space.rows.fingerprint,
                "base_model": own.student.model,
                "packages": package_versions(),
                "git_commit": git_commit(),
                "seed": own.seed,
                **lineage,
            }
        ),
    )


@contextmanager
def recorded(
    job: Job, kind: str, runs: list[str], *, parent: str | None = None, fresh: bool = False
) -> Iterator[dict[str, dict[str, Any]]]:
    """Hold runs while the body runs; record them as done with the figures that it gives, or as they ended.

    A body that runs on after another process took a run is stopped as by Ctrl-C, and its writes are refused.

    Raises:
        StoreError: another process holds a run, or has taken one.
    """
    from tutelage.config.load import job_digest
    from tutelage.registry.leases import HeartBeats, taken

    name, digest = job.loaded.job.name, job_digest(job.loaded.job)
    start = partial(
        job.registry.runs.start, kind=kind, job_name=name, config_yaml=job.yaml, digest=digest,
        parent=parent, again=True, fresh=fresh,
    )  # fmt: skip
    figures: dict[str, dict[str, Any]] = {}
    held: list[str] = []
    status: Status = "failed"
    with ExitStack() as logs, HeartBeats(job.registry.runs, interrupt_main) as hearts:
        try:
            for run in runs:
                fence = partial(Fence.raise_to, job.home / "runs", run, holder=Holder.this())
                begun = start(run, claim=fence)
                held.append(run)
                logs.enter_context(run_log(job.home / "runs" / run))
                LOG.info("%s: begun by %s, attempt %d", run, Holder.this(), begun.fence)
            yield figures
            status = "done"
            LOG.info("done")
        except KeyboardInterrupt:
            if hearts.lost:
                raise taken(hearts.lost[0]) from None
            status = "interrupted"
            LOG.warning("interrupted")
            raise
        except Exception:
            LOG.exception("failed")
            raise
        finally:
            unwritten = _finish(job, [run for run in held if run not in hearts.lost], status, figures)
        if hearts.lost:
            raise taken(hearts.lost[0])
        if unwritten is not None:
            raise unwritten


def _finish(
    job: Job, runs: list[str], status: Status, figures: dict[str, dict[str, Any]]
) -> StoreError | None:
    """Record the end of each run; the first refusal, which is told only where nothing worse is."""
    first: StoreError | None = None
    for run in runs:
        try:
            job.registry.runs.finish(run, status, figures.get(run, {}))
        except StoreError as error:
            LOG.warning("%s: its end could not be recorded: %s", run, error.problem)
            first = first or error
    return first


def interrupt_main() -> None:
    """Stop what the main thread does, as Ctrl-C would: the signal also ends a wait in a system call."""
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, signal.SIGINT)


def _figures(result: dict[str, Any]) -> dict[str, Any]:
    """What the registry keeps of a training: its end, not its curve; the accuracy of what it kept."""
    from actors.training import kept_accuracy

    last = result["points"][-1] if result["points"] else {}
    kept = {key: value for key, value in result.items() if key != "points"}
    return {**kept, "loss": last.get("loss"), "accuracy": kept_accuracy(result)}


def _known(names: list[str], teachers: list[str]) -> None:
    from tutelage.config.base import unknown_key

    for name in names:
        if name not in teachers:
            raise ConfigError(
                f"--only: {unknown_key(name, teachers)}", fix="name teachers with a finetune section"
            )
