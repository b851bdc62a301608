"""The job that a trial stands for: what is trained on the full budget, exported and registered."""

from __future__ import annotations

import json
from typing import Any

from tune_spaces.search.records import Record
from tune_spaces.space import Space, job_at
from tutelage.config import JobConfig
from tutelage.config.load import job_digest


def winner_job(job: JobConfig, searched: Space, record: Record) -> JobConfig:
    """The job with the values of a trial; without its search.

    A trial of `pbt` has changed its values on the way, by its own lead or with another's weights: they become
    schedules in steps, by which one training repeats what a line of trials has done.
    """
    stretches = json.loads(record.last.get("lineage", "[]"))
    point: dict[str, Any] = searched.point(stretches[-1]["values"] if stretches else record.labels)
    if len(stretches) > 1:
        at = [stretch["progress"] for stretch in stretches[1:]]
        for key in point:
            values = [stretch["values"][key] for stretch in stretches]
            point[key] = values[0] if len(set(values)) == 1 else {"type": "step", "values": values, "at": at}
    found = job_at(job, searched, point)
    return found.model_copy(update={"search": type(found.search)()})


def is_own(job: JobConfig, searched: Space, record: Record) -> bool:
    """Whether a trial is the job as it is."""
    return job_digest(winner_job(job, searched, record)) == job_digest(job)
