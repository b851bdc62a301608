"""What each teacher of a job sends, why, and where it is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from actors.fitting import tokenizer_of
from actors.teacher import TeacherSpec
from actors.workspace import Workspace
from tutelage.config.models import TeacherConfig
from tutelage.config.objectives import Validated
from tutelage.config.payload import AutoPayload, Payload, TopKPayload
from tutelage.data.examples import Examples
from tutelage.errors import ConfigError
from tutelage.signals.planner import JobFacts, Planned, TeacherFacts, plan
from tutelage.signals.spec import PayloadSpec
from tutelage.tasks import signal_width

SERVER_K = 20
"""Log-probabilities a token that completions servers give unless they are told otherwise (vLLM)."""
FLOP_A_WEIGHT = 6
"""Forward and backward pass of one position: two and four operations a weight."""


def planned(
    space: Workspace, measured: dict[str, dict[str, float]], speeds: Mapping[str, float] | None = None
) -> list[Planned]:
    """The payload of each teacher, in the order of the job. Raises ConfigError where one cannot be.

    Args:
        space: the job.
        measured: what the validated combiner goes by, once that is known.
        speeds: positions a second that a teacher's fleet scores; they decide nothing, and are shown.
    """
    job = space.job
    examples = _examples(space)
    rows = examples.select("train", job.student.data).rows
    teachers = [
        TeacherFacts(
            teacher.name,
            width=_width(space, examples),
            # What a server computes between its last hidden state and its answer is not ours to see.
            hidden=None if teacher.remote else space.bases[teacher.name].hidden,
            payload=_asked_for(teacher),
            positions_s=(speeds or {}).get(teacher.name),
        )
        for teacher in job.teachers
    ]
    limit = job.stream.store.max_gb
    chosen = plan(
        teachers,
        JobFacts(
            task=job.task.type,
            combiner=job.combiner,
            objectives=job.objectives,
            student_flop=FLOP_A_WEIGHT * _student_weights(space) or None,
            link_mb_s=job.stream.planner.link_mb_s,
            store_mb=None if limit is None else 1000 * limit,
            positions=int(examples.positions(rows).sum()),
            epochs=job.train.epochs,
            measured=measured or None,
        ),
    )
    if isinstance(job.combiner, Validated) and any(choice.spec.mixture for choice in chosen):
        _check_slices(examples, rows)
    return chosen


def _check_slices(examples: Examples, rows: NDArray[np.int64]) -> None:
    """Raise ConfigError for a text of two slices: its draws would be shared out by two sets of weights."""
    slice_of: dict[bytes, str] = {}
    for digest, name in zip(examples.digests(rows), examples.slices(rows), strict=True):
        if slice_of.setdefault(digest, name) != name:
            raise ConfigError(
                f"a text stands in slices '{slice_of[digest]}' and '{name}', and combiner 'validated' weighs "
                "teachers by slice: draws that teachers share would fit one of them alone",
                fix="set teachers.*.payload.mixture=no, or remove the repeated rows",
            )


def _asked_for(teacher: TeacherConfig) -> Payload:
    """A completions server can send the largest few alone, whatever would be cheapest."""
    if teacher.remote and teacher.remote.type == "openai" and isinstance(teacher.payload, AutoPayload):
        return TopKPayload(type="topk", k=SERVER_K)
    return teacher.payload


def dense_specs(space: Workspace, specs: Sequence[TeacherSpec]) -> dict[str, PayloadSpec]:
    """All logits in fp32 of every teacher, in the order of the job: what judging goes by."""
    width = _width(space, _examples(space))
    return {spec.name: PayloadSpec("dense", width) for spec in specs}


def signal_folders(
    root: Path, specs: Sequence[TeacherSpec], payloads: dict[str, PayloadSpec]
) -> dict[str, str]:
    """Folder of each teacher's signals: other weights, settings or payloads have another folder."""
    return {spec.name: str(root / spec.fingerprint / payloads[spec.name].key) for spec in specs}


def _examples(space: Workspace) -> Examples:
    return Examples.open(
        space.tokens_of(tokenizer_of(space.job.student.tokenizer, space.student, space.home))
    )


def _width(space: Workspace, examples: Examples) -> int:
    return signal_width(space.job.task, examples.vocabulary)


def _student_weights(space: Workspace) -> int:
    """About how many weights the student has: its model's, or the share of the layers that it keeps."""
    student, card = space.job.student, space.student
    if student.architecture is not None:
        from tutelage.models.architecture import student_config, weights_of

        config = student_config(student.architecture, card.folder, space.job.task)
        return weights_of(config, space.job.task.type)
    keep = student.layers
    return round(card.weights * len(keep) / card.layers) if keep and card.layers else card.weights
