"""Loss terms and how several teachers become one target."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from tutelage.config.base import Fraction, Section, Slug
from tutelage.config.schedule import Temperature, Weight


class CrossEntropy(Section):
    """Hard labels; unlabelled examples contribute nothing."""

    type: Literal["cross-entropy"]
    weight: Weight = 1.0
    """Factor of this term in the sum, or a schedule of it."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the target that is spread evenly over all classes."""


class KL(Section):
    """Forward KL from the combined teachers to the student at temperature T, times T^2."""

    type: Literal["kl"]
    weight: Weight = 1.0
    """Factor of this term in the sum, or a schedule of it."""
    temperature: Temperature = 2.0
    """Logits are divided by T before the softmax; above 1 the smaller classes count more."""


class JSD(Section):
    """Generalised Jensen-Shannon divergence to the combined teachers (arXiv:2306.13649), times T^2."""

    type: Literal["jsd"]
    weight: Weight = 1.0
    """Factor of this term in the sum, or a schedule of it."""
    beta: Fraction = 0.5
    """0 is forward KL, which covers all that the teachers do; 1 is reverse KL, which keeps to their peaks."""
    temperature: Temperature = 1.0
    """Logits are divided by T before the softmax."""


Objective = Annotated[CrossEntropy | KL | JSD, Field(discriminator="type")]


class Uniform(Section):
    """The mean of the teachers' distributions."""

    type: Literal["uniform"] = "uniform"


class Weighted(Section):
    """A fixed weight for each teacher."""

    type: Literal["weighted"]
    weights: dict[Slug, Annotated[float, Field(ge=0)]] = Field(min_length=1)
    """Teacher -> weight; every teacher has one, and they are scaled to sum to 1."""

    @field_validator("weights")
    @classmethod
    def _not_all_zero(cls, weights: dict[str, float]) -> dict[str, float]:
        if sum(weights.values()) <= 0:
            raise ValueError("the weights sum to 0: no teacher would be heard")
        return weights


class Confidence(Section):
    """For each example, more weight to the teacher that is surer of it."""

    type: Literal["confidence"]
    sharpness: float = Field(default=4.0, ge=0, le=100)
    """0 is the uniform mean; large values leave only the surest teacher."""


class Validated(Section):
    """For each slice, more weight to the teacher that predicts its labelled validation rows better."""

    type: Literal["validated"]
    sharpness: float = Field(default=4.0, ge=0, le=100)
    """0 is the uniform mean; large values leave only each slice's best teacher."""


Combiner = Annotated[Uniform | Weighted | Confidence | Validated, Field(discriminator="type")]
