"""What the endpoint reads and writes: requests, replies, errors. Shared by the replica and its clients."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

Text = Annotated[str, StringConstraints(pattern=r"\S")]
"""A text with at least one character that is not white space."""


class VersionRef(BaseModel):
    """Which version answers."""

    model_config = ConfigDict(frozen=True)

    name: str
    """The model's name, as the registry and the URL know it."""
    id: str
    """The version's content address."""
    lineage: dict[str, Any] = {}
    """What the version was made from, as `GET /v1/model` shows it."""


class PredictRequest(BaseModel):
    """The body of `POST /v1/predict`: one text or several."""

    model_config = ConfigDict(extra="forbid")

    text: Text | None = None
    texts: list[Text] | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _one_of_both(self) -> PredictRequest:
        if (self.text is None) == (self.texts is None):
            raise ValueError("give either 'text' or 'texts'")
        return self

    def all(self) -> list[str]:
        """The texts, whichever key they came by."""
        return [self.text] if self.text is not None else list(self.texts or [])


class Prediction(BaseModel):
    """The answer for one text. A score that is not finite is refused: JSON would carry it as null."""

    model_config = ConfigDict(allow_inf_nan=False)

    label: str
    score: float
    """Probability of `label`."""
    scores: dict[str, float]
    """Probability of each label; they sum to 1."""
    truncated: bool = False
    """True when the text has more tokens than the model reads; the rest was not looked at."""


class PredictReply(BaseModel):
    """The body of a 200."""

    predictions: list[Prediction]
    """In the order of the texts."""
    model: str
    version: str
    variant: str
    latency_ms: float
    """From the parsed request to the answer, waiting for the batch included."""


class ModelReply(BaseModel):
    """The body of `GET /v1/model`."""

    model: str
    version: str
    variant: str
    answers_with: str
    """The file of this replica: fp32 where its processor does not compute int8 as at export."""
    labels: list[str]
    max_tokens: int
    lineage: dict[str, Any]


class ReadyReply(BaseModel):
    """The body of `GET /readyz`."""

    ready: bool
    model: str
    version: str
    variant: str


class ErrorBody(BaseModel):
    """What went wrong, and what to do."""

    code: str
    message: str
    fix: str


class ErrorReply(BaseModel):
    """The body of every reply that is not a 200."""

    error: ErrorBody
