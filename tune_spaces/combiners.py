"""How several teachers become one target: which combiner, and how strongly it prefers some."""

from __future__ import annotations

from typing import Any

from tune_spaces.space import Space
from tutelage.config import JobConfig
from tutelage.config.search import Choice, FloatRange
from tutelage.models.describe import ModelCard

SHARPNESS = (1.0, 4.0, 16.0)


def space(job: JobConfig, student: ModelCard) -> Space:
    """The combiners that suit the job's number of teachers; no keys where there is nothing to combine."""
    if len(job.teachers) < 2:
        return Space({})
    values: list[Any] = [{"type": "uniform"}]
    values += [{"type": kind, "sharpness": s} for kind in ("confidence", "validated") for s in SHARPNESS]
    own = job.combiner.model_dump(mode="json")
    if own["type"] == "weighted" or own not in values:
        values.append(own)
    return Space({"combiner": Choice(type="choice", values=values)})


def weights(job: JobConfig, student: ModelCard) -> Space:
    """A fixed weight for each teacher, scaled to sum to 1; no keys with one teacher."""
    if len(job.teachers) < 2:
        return Space({})
    names = [teacher.name for teacher in job.teachers]
    own = job.combiner.weights if job.combiner.type == "weighted" else dict.fromkeys(names, 1.0)
    base = {"combiner": {"type": "weighted", "weights": own}}
    top = max(1.0, *own.values())
    return Space(
        {f'combiner.weights."{name}"': FloatRange(type="float", low=0.0, high=top) for name in names}, base
    )
