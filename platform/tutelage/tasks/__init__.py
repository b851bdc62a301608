"""The kinds of prediction: what a model of each is, where its positions are, how teacher and student meet."""

from __future__ import annotations

from tutelage.config.task import (
    CausalLM,
    QuestionAnswering,
    SequenceClassification,
    Task,
    TokenClassification,
)
from tutelage.tasks.base import StudentRows, TaskKind, TeacherRows, blank
from tutelage.tasks.causal_lm import CausalLMKind
from tutelage.tasks.question_answering import QuestionAnsweringKind
from tutelage.tasks.sequence_classification import SequenceClassificationKind
from tutelage.tasks.token_classification import TokenClassificationKind

__all__ = ["StudentRows", "TaskKind", "TeacherRows", "blank", "build_task", "signal_width"]


def build_task(section: Task) -> TaskKind:
    """The kind that a task section names."""
    match section:
        case TokenClassification():
            return TokenClassificationKind(section.labels)
        case QuestionAnswering():
            return QuestionAnsweringKind()
        case CausalLM():
            return CausalLMKind()
        case SequenceClassification():
            return SequenceClassificationKind(section.labels)


def signal_width(section: Task, vocabulary: int) -> int:
    """Values in a row of a teacher's logits; `vocabulary` is `Examples.vocabulary`, which causal-lm needs."""
    match section:
        case QuestionAnswering():
            return 2
        case CausalLM():
            return vocabulary
        case _:
            return len(section.labels)
