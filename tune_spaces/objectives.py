"""How much each loss term counts beside the first one, whose weight stays: only ratios matter."""

from __future__ import annotations

from tune_spaces.space import Space
from tutelage.config import JobConfig
from tutelage.config.schedule import peak
from tutelage.config.search import FloatRange, Searched
from tutelage.models.describe import ModelCard


def space(job: JobConfig, student: ModelCard) -> Space:
    """Weights from 0 to four times the job's own; no keys with one objective."""
    keys: dict[str, Searched] = {}
    for objective in job.objectives[1:]:
        high = 4 * peak(objective.weight) or 1.0
        keys[f"objectives.{objective.type}.weight"] = FloatRange(type="float", low=0.0, high=high)
    return Space(keys)
