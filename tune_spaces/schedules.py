"""How soft the teachers' target is, over the training: temperature from a start to an end, and its shape.

A high temperature first shows how the teachers rank all classes, a low one later which they mean
(annealing KD, arXiv:2104.07163, goes this way in steps). A constant temperature is the point where start
and end are equal, so the search can say that a schedule does not pay.
"""

from __future__ import annotations

from tune_spaces.space import Space
from tutelage.config import JobConfig
from tutelage.config.schedule import value_at
from tutelage.config.search import Choice, FloatRange, Searched
from tutelage.models.describe import ModelCard

LOW, HIGH = 1.0, 8.0
"""Temperatures that distillation is usually run at."""


def space(job: JobConfig, student: ModelCard) -> Space:
    """Start, end and shape of the temperature of each objective that hears the teachers."""
    keys: dict[str, Searched] = {}
    base = {}
    for objective in job.objectives:
        if objective.type == "cross-entropy":
            continue
        key = f"objectives.{objective.type}.temperature"
        start, end = (value_at(objective.temperature, progress) for progress in (0.0, 1.0))
        base[key] = {"type": "linear", "start": start, "end": end}
        keys[f"{key}.start"] = FloatRange(type="float", low=min(LOW, start), high=max(HIGH, start), log=True)
        keys[f"{key}.end"] = FloatRange(type="float", low=min(LOW, end), high=max(HIGH, end), log=True)
        keys[f"{key}.type"] = Choice(type="choice", values=["linear", "cosine", "exponential"])
    return Space(keys, base)
