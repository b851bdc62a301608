"""Commands as they can be pasted: the one that was given, and the next, where it would not be refused."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tutelage.errors import ConfigError
from tutelage.models.exportable import export_fault

if TYPE_CHECKING:
    from tutelage.config.job import JobConfig


def command_of(verb: str, job_file: Path, overrides: Sequence[str] | None = None) -> str:
    """`tutelage VERB JOB KEY=VALUE...`, quoted for a shell."""
    return shlex.join(["tutelage", verb, str(job_file), *(overrides or ())])


def after_distill(job: JobConfig, job_file: Path, overrides: Sequence[str] | None, student: Path) -> str:
    """The export of the student in this folder, or nothing where a task or a family has none."""
    family = json.loads((student / "config.json").read_text(encoding="utf-8")).get("model_type", "")
    return "" if export_fault(job.task.type, family) else command_of("export", job_file, overrides)


def check_export(job: JobConfig, fix: str) -> None:
    """Raises ConfigError for a task whose students are not exported."""
    fault = export_fault(job.task.type)
    if fault:
        raise ConfigError(fault, fix=fix)
