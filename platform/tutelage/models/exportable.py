"""Which students can be exported and served."""

from __future__ import annotations

from tutelage.config.task import TaskName

TASKS: tuple[TaskName, ...] = ("sequence-classification",)
"""Tasks whose students are exported and served."""
_NOT_TRACED = {
    "longformer": "its windows are cut by the length of the text, which torch.export cannot leave open",
}
"""Families that torch cannot export, and why."""


def export_fault(task: TaskName, family: str = "") -> str | None:
    """Why a student of a task, and of a family (`model_type`), cannot be exported; None where it can."""
    if task not in TASKS:
        return f"task.type is {task}: ONNX export serves {' and '.join(TASKS)} alone"
    if family in _NOT_TRACED:
        return f"a {family} cannot be exported to ONNX: {_NOT_TRACED[family]}"
    return None
