"""The kinds of prediction: what a model of each is, where its positions are, how teacher and student meet."""

from __future__ import annotations

from tutelage.config.task import Task
from tutelage.tasks.base import StudentRows, TaskKind, TeacherRows
from tutelage.tasks.sequence_classification import SequenceClassificationKind

__all__ = ["StudentRows", "TaskKind", "TeacherRows", "build_task"]


def build_task(section: Task) -> TaskKind:
    """The kind that a task section names."""
    return SequenceClassificationKind(section.labels)
