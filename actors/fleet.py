"""The fleet: the replicas of each teacher as Ray actors."""

from __future__ import annotations

import math
from typing import Any

from actors.reasons import reason
from actors.replica import RayReplica, Replica
from actors.teacher import Teacher, TeacherSpec
from tutelage.config.models import TeacherConfig
from tutelage.errors import TeacherError


class Fleet:
    """Starts all replicas at once; a replica whose process dies is restarted by Ray."""

    def __init__(self, teachers: list[tuple[TeacherSpec, TeacherConfig]]) -> None:
        import ray

        self._replicas: dict[str, list[Replica]] = {}
        self._handles: list[Any] = []
        actor = ray.remote(Teacher)
        for spec, config in teachers:
            handles = [
                actor.options(
                    num_cpus=config.num_cpus,
                    num_gpus=config.num_gpus,
                    max_restarts=-1,
                    # A lost call is asked again by the stream, which knows of other replicas.
                    max_task_retries=0,
                ).remote(spec, index)
                for index in range(config.replicas)
            ]
            self._handles += handles
            self._replicas[spec.name] = [
                RayReplica(f"{spec.name}-{index}", handle) for index, handle in enumerate(handles)
            ]

    @property
    def replicas(self) -> dict[str, list[Replica]]:
        """The replicas of each teacher; they may be sent to other processes."""
        return self._replicas

    def ready(self, deadline_s: float) -> list[dict[str, str]]:
        """Wait until every replica has loaded its model, and say what it is.

        Raises TeacherError with the reason of the first replica that cannot load.
        """
        import ray

        pending = [handle.describe.remote() for handle in self._handles]
        try:
            cards: list[dict[str, str]] = ray.get(pending, timeout=deadline_s)
        except ray.exceptions.GetTimeoutError as error:
            free: Any = ray.available_resources  # Ray leaves it unannotated
            raise TeacherError(
                f"the teachers did not load within {deadline_s:g} s: the cluster has {free()} free",
                fix="lower teachers.*.num_cpus or num_gpus, or add nodes",
            ) from error
        except ray.exceptions.RayError as error:
            raise TeacherError(
                f"a teacher cannot load: {reason(error)}",
                fix="check the model's folder",
            ) from error
        return cards

    def stop(self) -> None:
        """End all replicas."""
        import ray

        for handle in self._handles:
            ray.kill(handle)
        self._handles = []


def threads_of(config: TeacherConfig) -> int:
    """Intra-op threads of one replica on CPU."""
    return config.threads or max(1, math.ceil(config.num_cpus))
