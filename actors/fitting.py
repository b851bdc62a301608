"""Whether the models of a job can do what it asks, before a weight is loaded: `--plan` asks it too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tutelage.config import JobConfig
from tutelage.config.models import TeacherConfig
from tutelage.config.task import Task
from tutelage.data.catalog import resolve_model
from tutelage.errors import ModelError
from tutelage.models.describe import (
    ModelCard,
    check_length,
    check_student,
    check_vocabulary_size,
    teacher_label_order,
)
from tutelage.models.exportable import export_fault
from tutelage.models.head import read_config
from tutelage.models.padding import check_padding, padding_side, reads_padding
from tutelage.models.positions import usable_tokens
from tutelage.tokenizer import check_fast, check_room, load_tokenizer, read_texts

_PROBE = "a b"
_TEACHES = "take another model here; as a ready-made teacher of sequence-classification it can be used"


def check_models(job: JobConfig, student: ModelCard, bases: dict[str, ModelCard], home: Path) -> None:
    """Raise ConfigError, ModelError or DataError where a model does not fit the job.

    Args:
        job: the job.
        student: the model that the student is or starts from.
        bases: the same for each teacher that is not remote.
        home: where models are kept.
    """
    limit = job.data.max_tokens
    check_shape(job, student)
    ours = load_tokenizer(tokenizer_of(job.student.tokenizer, student, home))
    _check_trained("student", student, ours, job.task, limit)
    for teacher in job.teachers:
        if teacher.name in bases:
            card = bases[teacher.name]
            tokenizer = load_tokenizer(tokenizer_of(teacher.tokenizer, card, home))
            _check_teacher(teacher, card, tokenizer, job)
            if job.task.type == "causal-lm":
                from tutelage.models.vocabulary import check_vocabulary

                # Teachers are asked in the student's token ids, so these must mean the same to them.
                check_vocabulary(f"teachers.{teacher.name}", ours, tokenizer)


def check_shape(job: JobConfig, student: ModelCard) -> None:
    """Raise ModelError when the student cannot be made as configured."""
    check_student(job.student, student)
    advice = f"data.max_tokens={student.positions} or less"
    check_length("student.model", student, job.data.max_tokens, advice)
    if job.student.architecture is None:
        return
    from tutelage.models.architecture import check_method, student_config, weights_of

    config = student_config(job.student.architecture, student.folder, job.task)
    limit = usable_tokens(config)
    if limit is not None and job.data.max_tokens > limit:
        raise ModelError(
            f"student.architecture: data.max_tokens is {job.data.max_tokens}, a {config.model_type} with the "
            f"positions of {student.folder} has {limit}",
            fix=f"data.max_tokens={limit} or less",
        )
    _check_mask("student.architecture.family", config, "take another family")
    check_method(job.student.method, config, read_config(student.folder))
    weights_of(config, job.task.type)  # builds it without its numbers


def model_concerns(job: JobConfig, student: ModelCard) -> list[str]:
    """What a later verb refuses of a student that can be trained: a sentence each."""
    shape = job.student.architecture
    family = read_config(student.folder).model_type if shape is None else shape.family
    fault = export_fault(job.task.type, str(family))
    return [f"the student is for transformers alone, no version and no endpoint: {fault}"] if fault else []


def tokenizer_of(tokenizer: str | None, model: ModelCard, home: Path) -> str:
    """Folder of the tokenizer: the configured one, or the model's own."""
    return resolve_model(tokenizer, home) if tokenizer else model.folder


def _check_teacher(teacher: TeacherConfig, card: ModelCard, tokenizer: Any, job: JobConfig) -> None:
    key = f"teachers.{teacher.name}"
    if teacher.finetune:
        check_length(f"{key}.model", card, job.data.max_tokens, f"data.max_tokens={card.positions} or less")
        _check_trained(key, card, tokenizer, job.task, job.data.max_tokens)
        return
    limit = teacher.max_tokens or job.data.max_tokens
    advice = f"{key}.max_tokens={card.positions}, which cuts longer texts for this teacher alone"
    check_length(f"{key}.model", card, limit, advice)
    teacher_label_order(teacher, card, job.task)
    _check_read(key, card, tokenizer, job.task, limit)
    if job.task.type != "sequence-classification":
        check_fast(tokenizer, f"{key}.tokenizer")
        _check_mask(f"{key}.model", read_config(card.folder), "name another model")


def _check_read(key: str, card: ModelCard, tokenizer: Any, task: Task, limit: int) -> None:
    check_vocabulary_size(key, card, 1 + max(tokenizer.get_vocab().values()))
    check_room(tokenizer, limit, pair=task.type == "question-answering")
    check_padding(key, read_config(card.folder), tokenizer, task.type)


def _check_trained(key: str, card: ModelCard, tokenizer: Any, task: Task, limit: int) -> None:
    """What is trained here must also be exported and served: rows padded behind, of one type of token."""
    _check_read(key, card, tokenizer, task, limit)
    check_fast(tokenizer, f"{key}.tokenizer")
    _check_mask(f"{key}.model", read_config(card.folder), _TEACHES)
    if task.type != "sequence-classification":
        return
    types = read_texts(tokenizer, [_PROBE], limit)[0].types
    typed = types is not None and bool(types.any())
    if typed or padding_side(read_config(card.folder)) == "left":
        raise ModelError(
            f"{key}.model: a {card.architecture} answers from the last token of a row, where the rows of a "
            "training and of an endpoint have their padding"
            if not typed
            else f"{key}.model: the tokenizer of a {card.architecture} gives special tokens a type of their "
            "own, which neither a training nor an endpoint passes on",
            fix=_TEACHES,
        )


def _check_mask(key: str, config: Any, fix: str) -> None:
    if reads_padding(config):
        raise ModelError(
            f"{key}: a {config.model_type} reads its padding, mask or not, so an answer would depend on the "
            "texts beside it",
            fix=fix,
        )
