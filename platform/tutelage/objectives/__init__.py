"""Loss terms, and combiners that turn several teachers into one target."""

from __future__ import annotations

from collections.abc import Sequence

from tutelage.config import objectives as config
from tutelage.config.schedule import peak
from tutelage.objectives.base import Dense, Draws, Evidence, Signal, Term, TopK, heard, mixture
from tutelage.objectives.combiners import Measured, build_combiner
from tutelage.objectives.cross_entropy import CrossEntropyTerm
from tutelage.objectives.jsd import JSDTerm
from tutelage.objectives.kl import KLTerm
from tutelage.objectives.schedules import Schedules

__all__ = [
    "Dense",
    "Draws",
    "Evidence",
    "Measured",
    "Schedules",
    "Signal",
    "Term",
    "TopK",
    "build_combiner",
    "build_terms",
    "heard",
    "mixture",
]


def build_terms(sections: Sequence[config.Objective], groups: Sequence[int] = ()) -> list[Term]:
    """The loss terms of a job, as they are at the first step, without those whose weight is always 0.

    Args:
        groups: of each class, where labels are told apart within their group alone.
    """
    return [_build(section, groups) for section in sections if peak(section.weight) > 0]


def _build(section: config.Objective, groups: Sequence[int]) -> Term:
    match section:
        case config.CrossEntropy():
            return CrossEntropyTerm(section, groups)
        case config.KL():
            return KLTerm(section)
        case config.JSD():
            return JSDTerm(section)
