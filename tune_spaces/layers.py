"""Which layers of the student's model are kept: how many, and whether the lowest or spread over all."""

from __future__ import annotations

from tune_spaces.space import Space
from tutelage.config import JobConfig
from tutelage.config.search import Choice
from tutelage.models.describe import ModelCard


def space(job: JobConfig, student: ModelCard) -> Space:
    """For every number of layers, the lowest ones and evenly spread ones; no keys for a single layer."""
    values: list[list[int]] = []
    for count in range(1, student.layers + 1):
        spread = [round(n * (student.layers - 1) / max(1, count - 1)) for n in range(count)]
        for layers in (list(range(count)), spread):
            if layers not in values:
                values.append(layers)
    if job.student.layers and job.student.layers not in values:
        values.append(job.student.layers)
    if len(values) < 2:
        return Space({})
    return Space(
        {"student.layers": Choice(type="choice", values=list(values))}, {"student.architecture": None}
    )
