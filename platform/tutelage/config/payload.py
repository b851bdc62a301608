"""How a teacher's signals travel, and what the planner may go by when it chooses."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tutelage.config.base import Positive, Section


class AutoPayload(Section):
    """The planner's choice, from the task, the classes, the objectives and the combiner."""

    type: Literal["auto"] = "auto"


class DensePayload(Section):
    """All logits: exact for every objective."""

    type: Literal["dense"]
    dtype: Literal["fp32", "bf16", "int8"] = "fp32"
    """int8 has a scale and an offset for each row; its error is at most (max - min) / 508 of the row."""


class HiddenPayload(Section):
    """Causal-lm: the last hidden state; the student computes the logits with the teacher's own head."""

    type: Literal["hidden"]
    dtype: Literal["fp32", "bf16"] = "bf16"
    """How the hidden state travels."""


class TopKPayload(Section):
    """The k most probable labels and one tail for the rest, for `kl`."""

    type: Literal["topk"]
    k: Positive = 64
    """Labels a position; fewer than there are classes."""
    dtype: Literal["fp32", "fp16", "bf16"] = "fp16"
    """How log-probabilities travel; at the same size, fp16 is finer than bf16."""


class SampledPayload(Section):
    """Labels drawn from the teachers' distributions: an unbiased target for `kl` in a few bytes."""

    type: Literal["sampled"]
    draws: Positive = 12
    """Draws a position: of all teachers together from a mixture, else of this teacher."""
    mixture: Literal["auto", "yes", "no"] = "auto"
    """Share the draws among the teachers by their weights; `auto` does so where those are known in time."""


Payload = Annotated[
    AutoPayload | DensePayload | HiddenPayload | TopKPayload | SampledPayload, Field(discriminator="type")
]


class PlannerConfig(Section):
    """What the planner cannot find out by itself."""

    link_mb_s: float | None = Field(default=None, gt=0)
    """Megabytes a second from teachers to one student; it bounds the expected rate. Unbounded when null."""
