"""What is predicted."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from tutelage.config.base import Section


class SequenceClassification(Section):
    """One label for each text."""

    type: Literal["sequence-classification"] = "sequence-classification"
    labels: list[str] = Field(min_length=2)
    """Class names; their order is the order of every logit vector (C) in the run."""

    @field_validator("labels")
    @classmethod
    def _distinct(cls, labels: list[str]) -> list[str]:
        doubled = sorted({label for label in labels if labels.count(label) > 1})
        if doubled:
            raise ValueError(f"labels stand twice: {', '.join(doubled)}")
        return labels


Task = SequenceClassification
