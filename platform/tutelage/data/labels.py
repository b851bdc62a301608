"""From the value in a label column to the index of a task label (C classes)."""

from __future__ import annotations

import difflib
import math
from decimal import Decimal

from tutelage.errors import DataError

UNLABELLED = -1
"""Label of a row without one."""


class UnknownLabelError(ValueError):
    """A value that stands for no task label; its text is the value as it was read."""


class LabelMap:
    """Raw value -> index into the task's labels.

    A value is looked up as text: first in the source's `labels`, then among the task's labels. A whole
    number 0..C-1 is taken as the index itself only when the source maps nothing and no task label is a
    number, since the number could mean something else otherwise. Null, NaN and white space are unlabelled.

    Raises:
        DataError: the source maps to a label that the task does not have.
    """

    def __init__(self, source: str, labels: list[str], mapping: dict[str, str]) -> None:
        self.labels = labels
        self.index = {label: i for i, label in enumerate(labels)}
        for raw, label in mapping.items():
            if label not in self.index:
                near = difflib.get_close_matches(label, labels, n=1)
                raise DataError(
                    f"data.sources.{source}.labels: '{raw}' is mapped to '{label}', "
                    f"which is not one of task.labels: {', '.join(labels)}",
                    fix=f"write '{near[0]}'"
                    if near
                    else "map to a task label, or add this one to task.labels",
                )
        self.index.update({raw: self.index[label] for raw, label in mapping.items()})
        self.numbers_are_indices = _by_number(labels, mapping)

    def __call__(self, value: object) -> int:
        """The index, or -1 for no label. Raises UnknownLabelError."""
        text = label_text(value)
        if text is None:
            return UNLABELLED
        found = self.index.get(text)
        if found is not None:
            return found
        if self.numbers_are_indices and _is_number(text) and int(text) < len(self.labels):
            return int(text)
        raise UnknownLabelError(text)


def spellings(labels: list[str], mapping: dict[str, str]) -> frozenset[str]:
    """All texts that stand for a label; what the source maps may lead to labels that are still to come."""
    numbers = map(str, range(len(labels))) if _by_number(labels, mapping) else ()
    return frozenset([*labels, *mapping, *numbers])


def _by_number(labels: list[str], mapping: dict[str, str]) -> bool:
    return not mapping and not any(_is_number(label) for label in labels)


def fold_label(label: str) -> str:
    """The same for labels that differ in case or white space alone."""
    return " ".join(label.split()).casefold()


def label_text(value: object) -> str | None:
    """The value as text, as labels are compared; None where there is no label."""
    if (
        value is None
        or (isinstance(value, str) and not value.strip())
        or (isinstance(value, float | Decimal) and math.isnan(value))
    ):
        return None
    return _as_text(value)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and (text == "0" or text[0] != "0")


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float | Decimal) and math.isfinite(value) and value == int(value):
        return str(int(value))
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    return str(value)
