"""Combiners: one small file each, one entry in the table below."""

from __future__ import annotations

from tutelage.config import objectives as config
from tutelage.objectives.base import CombinerRule
from tutelage.objectives.combiners.confidence import ConfidenceRule
from tutelage.objectives.combiners.validated import Measured, ValidatedRule
from tutelage.objectives.combiners.weighted import WeightedRule

__all__ = ["Measured", "build_combiner"]


def build_combiner(
    section: config.Combiner, teachers: list[str], measured: Measured | None = None
) -> CombinerRule:
    """The rule that a combiner section names, for teachers in this order.

    `measured` is what the validated combiner goes by. Raises ValueError when it needs it and has none.
    """
    match section:
        case config.Uniform():
            return WeightedRule([1.0] * len(teachers))
        case config.Weighted():
            return WeightedRule([section.weights[name] for name in teachers])
        case config.Confidence():
            return ConfidenceRule(section.sharpness)
        case config.Validated():
            if not measured:
                raise ValueError("the validated combiner got no measured slices")
            return ValidatedRule(section.sharpness, measured, teachers)
