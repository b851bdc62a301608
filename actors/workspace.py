"""What every verb needs before any training: models checked, data read and tokenised, runs named."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from actors.fetched import model_folder
from actors.fitting import check_models, model_concerns, tokenizer_of
from tutelage.config import JobConfig
from tutelage.config.load import decided_by_finetune, job_digest
from tutelage.config.models import TeacherConfig
from tutelage.data.concerns import concerns
from tutelage.data.row_set import told
from tutelage.data.rows import RowSet, read_rows
from tutelage.data.token_facts import TokenFacts, token_facts
from tutelage.data.tokens import tokenise
from tutelage.files import digest_text
from tutelage.models.describe import ModelCard, describe
from tutelage.models.fingerprint import fingerprint
from tutelage.progress import Progress, Stage
from tutelage.run_log import FOLDER as LOG_FOLDER
from tutelage.semantics import TRAINING


@dataclass(frozen=True)
class Workspace:
    """A job on this machine: nothing is trained yet, everything that can be checked is checked."""

    job: JobConfig
    home: Path
    rows: RowSet
    student: ModelCard
    bases: dict[str, ModelCard]
    """For each teacher that is not remote, the model it is or starts from."""
    tokens: dict[str, Path]
    """Tokenised rows by tokenizer folder."""
    facts: TokenFacts = field(default_factory=TokenFacts)
    """What the student's tokenizer makes of the rows."""

    @property
    def runs(self) -> Path:
        """Folder of all runs."""
        return self.home / "runs"

    @property
    def signals(self) -> Path:
        """Folder of the signal store."""
        return self.home / "signals"

    @property
    def concerns(self) -> list[str]:
        """What is worth a warning in the rows and the student; empty where all is sane."""
        return [*concerns(self.job, self.rows, self.facts), *model_concerns(self.job, self.student)]

    def tokens_of(self, tokenizer: str) -> Path:
        """The tokenised rows for a tokenizer folder."""
        return self.tokens[tokenizer]


def open_workspace(job: JobConfig, home: Path, ui: Progress) -> Workspace:
    """Fetch, check and tokenise. Raises ConfigError, ModelError or DataError, before anything is trained."""
    with ui.stage("fetch") as stage:
        student = describe(model_folder(job.student.model, job.task.type, home, stage))
        here = [teacher for teacher in job.teachers if teacher.remote is None]
        bases = {
            teacher.name: describe(model_folder(teacher.model, job.task.type, home, stage))
            for teacher in here
        }
        check_models(job, student, bases, home)
    with ui.stage("data") as stage:
        rows = read_rows(job, home, stage)
        _say_counts(rows, stage)
        folders = {tokenizer_of(job.student.tokenizer, student, home)}
        folders |= {
            tokenizer_of(teacher.tokenizer, bases[teacher.name], home)
            for teacher in job.teachers
            if teacher.finetune
        }
        tokens = {
            folder: tokenise(rows, folder, job.data.max_tokens, home, stage) for folder in sorted(folders)
        }
        own = tokenizer_of(job.student.tokenizer, student, home)
        facts = token_facts(tokens[own], own, job.data.max_tokens)
        space = Workspace(job, home, rows, student, bases, tokens, facts)
        for line in space.concerns:
            stage.note(line)
    return space


def finetune_run(space: Workspace, teacher: TeacherConfig) -> str:
    """Run id of a teacher's fine-tuning: the same teacher, data and settings give the same run."""
    job, base = space.job, space.bases[teacher.name]
    assert teacher.finetune is not None
    digest = digest_text(
        f"training {TRAINING}",
        fingerprint(base.folder, tokenizer_of(teacher.tokenizer, base, space.home)),
        decided_by_finetune(teacher.finetune),
        job.task.model_dump_json(),
        space.rows.fingerprint,
        str(job.data.max_tokens),
        str(job.seed),
    )
    return f"{job.name}-finetune-{teacher.name}-{digest[:8]}"


def distill_run(space: Workspace, teachers: dict[str, str]) -> str:
    """Run id of a distillation; `teachers` are the fingerprints of the teachers."""
    pairs = [f"{name}={mark}" for name, mark in sorted(teachers.items())]
    base = fingerprint(
        space.student.folder, tokenizer_of(space.job.student.tokenizer, space.student, space.home)
    )
    code = f"training {TRAINING}"
    digest = digest_text(code, job_digest(space.job), base, space.rows.fingerprint, *pairs)
    return f"{space.job.name}-distill-{digest[:8]}"


def finished(space: Workspace, run: str) -> dict[str, Any] | None:
    """The result of a run that is done; None when it has to run, or to go on."""
    path = space.runs / run / "model" / "result.json"
    if not path.exists():
        return None
    result: dict[str, Any] = json.loads(path.read_text())
    return result


def forget(space: Workspace, run: str) -> None:
    """Remove all of a run but its log, so that the run starts from its beginning."""
    folder = space.runs / run
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name == LOG_FOLDER:
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    with suppress(OSError):  # it holds a log, or is not there
        folder.rmdir()


def _say_counts(rows: RowSet, stage: Stage) -> None:
    for source, splits in rows.counts.items():
        stage.note(f"{source}: " + ", ".join(f"{count} {name}" for name, count in splits.items()))
    for line in told(rows):
        stage.note(line)
