"""Several small teachers in one process: one start, one import of torch, one CUDA context for all of them.

Teachers share a process when a replica of each takes less than one CPU and less than one GPU, and together
they take no more than one (`teachers.*.share_process` says otherwise). Each has a thread of its own in it,
so none waits for another, and each does one question after another. The price is that they die together:
so whoever is lost once is started again in a process of its own.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.scorer import make_scorer
from actors.teacher import Layers, Scorer, TeacherSpec
from tutelage.config.models import TeacherConfig
from tutelage.run_log import speak
from tutelage.signals.exchange import Reply, Request

LOG = logging.getLogger(__name__)
Plan = tuple[TeacherSpec, TeacherConfig]


class TeacherHost:
    """One process with at most one replica of each of its teachers, which are loaded one after another."""

    def __init__(self) -> None:
        speak()
        self._scorers: dict[str, Scorer] = {}
        self._layers: Layers | None = None
        # transformers changes global state while it loads a model.
        self._loading = threading.Lock()

    def load(self, spec: TeacherSpec, replica: str | int) -> dict[str, str]:
        """Load a teacher and say what it is. Raises ModelError, ConfigError or TeacherError."""
        with self._loading:
            if self._layers is None and spec.remote is None:
                from tutelage.models.shared_layers import SharedLayers

                self._layers = SharedLayers()
            began = time.monotonic()
            self._scorers[spec.name] = make_scorer(spec, replica, self._layers)
            LOG.info("replica %s is loaded after %.0f s", replica, time.monotonic() - began)
        return self.describe(spec.name)

    def describe(self, teacher: str) -> dict[str, str]:
        """Facts about the replica."""
        return self._scorers[teacher].describe()

    def score(self, teacher: str, request: Request) -> Reply:
        """The signals that the request asks for."""
        return self._scorers[teacher].score(request)

    def head(self, teacher: str) -> NDArray[np.float32]:
        """Weights [V, H] of the output layer."""
        return self._scorers[teacher].head()


class Seat:
    """One replica's place in a host. It may be sent to other processes."""

    def __init__(self, host: Any, teacher: str) -> None:
        self.host = host
        self.teacher = teacher

    @property
    def id(self) -> tuple[bytes, str]:
        """The same for the same place, wherever it was sent."""
        return self.host._actor_id.binary(), self.teacher

    @property
    def describe(self) -> Call:
        """Facts about the replica."""
        return Call(self, "describe")

    @property
    def score(self) -> Call:
        """The signals that a request asks for."""
        return Call(self, "score")

    @property
    def head(self) -> Call:
        """Weights of the output layer."""
        return Call(self, "head")

    def load(self, spec: TeacherSpec, replica: str) -> Any:
        """Submit the load; the answer is what the replica says of itself."""
        return self.method("load").remote(spec, replica)

    def method(self, name: str) -> Any:
        """The host's method, in the thread of this teacher, where calls are done in order."""
        return getattr(self.host, name).options(concurrency_group=self.teacher)


class Call:
    """A method of a seat, called as that of an actor handle is."""

    def __init__(self, seat: Seat, name: str) -> None:
        self._method = seat.method(name)
        self._teacher = seat.teacher

    def remote(self, *given: Any) -> Any:
        """Submit the call."""
        return self._method.remote(self._teacher, *given)


def start_host(plans: Sequence[Plan]) -> Any:
    """Submit an actor with room for these teachers, and with what all of them reserve."""
    import ray

    cpus, gpus = (
        round(sum(needs), 4) for needs in zip(*(_needs(config) for _, config in plans), strict=True)
    )
    remote: Any = ray.remote
    groups = {spec.name: 1 for spec, _ in plans}
    # A lost call is asked again by the channel, which knows of other replicas, and a lost process is
    # replaced by the supervisor, which tells everybody.
    actor = remote(
        num_cpus=cpus, num_gpus=gpus, max_restarts=0, max_task_retries=0, concurrency_groups=groups
    )
    return actor(TeacherHost).remote()


def shared(plans: Sequence[Plan]) -> list[list[Plan]]:
    """The groups of at least two teachers that share a process; in the order of the job."""
    groups: dict[tuple[int, bool], list[list[Plan]]] = {}
    for plan in plans:
        spec, config = plan
        if not shares(config):
            continue
        # Threads are set for the whole process; who was given no GPU must not see one.
        alike = groups.setdefault((spec.threads, config.num_gpus > 0), [[]])
        if not _fits([*alike[-1], plan]):
            alike.append([])
        alike[-1].append(plan)
    return [group for alike in groups.values() for group in alike if len(group) > 1]


def shares(config: TeacherConfig) -> bool:
    """Whether a replica may live beside those of other teachers."""
    if config.share_process is not None:
        return config.share_process
    return 0 < config.num_cpus < 1 and config.num_gpus < 1


def _fits(group: Sequence[Plan]) -> bool:
    if any(config.share_process for _, config in group):
        return True
    return all(
        round(sum(needs), 4) <= 1 for needs in zip(*(_needs(config) for _, config in group), strict=True)
    )


def _needs(config: TeacherConfig) -> tuple[float, float]:
    return config.num_cpus, config.num_gpus
