"""What each teacher of a job sends, and where it is kept."""

from __future__ import annotations

from pathlib import Path

from actors.teacher import TeacherSpec
from actors.workspace import Workspace
from tutelage.signals.spec import PayloadSpec


def dense_specs(space: Workspace, specs: list[TeacherSpec]) -> dict[str, PayloadSpec]:
    """All logits in fp32 of every teacher, in the order of the job: what judging goes by."""
    width = len(space.job.task.labels)
    return {spec.name: PayloadSpec("dense", width) for spec in specs}


def signal_folders(root: Path, specs: list[TeacherSpec], payloads: dict[str, PayloadSpec]) -> dict[str, str]:
    """Folder of each teacher's signals: other weights, settings or payloads have another folder."""
    return {spec.name: str(root / spec.fingerprint / payloads[spec.name].key) for spec in specs}
