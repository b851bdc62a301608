"""What is predicted."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from tutelage.config.base import DefaultType, Section

TaskName = Literal["sequence-classification", "token-classification", "question-answering", "causal-lm"]


def _distinct(labels: list[str]) -> list[str]:
    doubled = sorted({label for label in labels if labels.count(label) > 1})
    if doubled:
        raise ValueError(f"labels stand twice: {', '.join(doubled)}")
    return labels


Labels = Annotated[list[str], Field(min_length=2), AfterValidator(_distinct)]


class SequenceClassification(Section):
    """One label for each text."""

    type: Literal["sequence-classification"] = "sequence-classification"
    labels: Labels
    """Class names; their order is the order of every logit vector (C) in the run."""


class TokenClassification(Section):
    """One label for each word of a text: names, parts of speech."""

    type: Literal["token-classification"]
    labels: Labels
    """Tags; their order is the order of every logit vector (C) in the run."""


class QuestionAnswering(Section):
    """The answer to a question is a passage of the context; the model gives its first and its last word."""

    type: Literal["question-answering"]
    unanswerable: bool = False
    """The context may lack the answer. The model's first token then stands for "there is none"."""

    @property
    def labels(self) -> list[str]:
        """None: the classes of an example are its own words."""
        return []


class CausalLM(Section):
    """The next token. Teachers and student must have the same tokenizer vocabulary."""

    type: Literal["causal-lm"]
    completion_only: bool = False
    """Learn the tokens of the completion alone, not those of the prompt; needs `columns.completion`."""
    end_token: bool = True
    """Put the tokenizer's end token behind a text that is not cut, so that the student learns to stop."""

    @property
    def labels(self) -> list[str]:
        """None: the classes are the tokenizer's vocabulary."""
        return []


Task = Annotated[
    SequenceClassification | TokenClassification | QuestionAnswering | CausalLM,
    Field(discriminator="type"),
    DefaultType("sequence-classification"),
]
