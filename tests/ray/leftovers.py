"""What a test leaves on a cluster: actors and the CPUs they hold."""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SETTLE_S = 20.0
"""How long actors may take to go after their last handle did."""

RAY_SERVICES = {
    "_AutoscalingCoordinatorActor",
    "AutoscalingCoordinator",
    "TrainStateActor",
    "UsageActor",
    "_StatsActor",
    "_ActorLocationTracker",
}
"""Detached actors without resources that Ray's libraries keep for the life of a cluster."""


@dataclass(frozen=True)
class Actor:
    """A living actor."""

    kind: str
    """Its class."""
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}".strip()


def leftovers(before: Mapping[str, Actor], cpus: float, settle_s: float = SETTLE_S) -> str:
    """Empty once everything is as before; else what is not, after it has been killed.

    An actor that replaces one of the same class, as a new replica does, is no leftover.
    """
    deadline = time.monotonic() + settle_s
    while True:
        gc.collect()
        left, free = _more_than(before, living_actors()), free_cpus()
        if not left and free >= cpus:
            return ""
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    for id, actor in left.items():
        _kill(id, actor)
    names = ", ".join(sorted(map(str, left.values()))) or "none"
    return f"actors left: {names}; CPUs free: {free:g}, before: {cpus:g}"


def _more_than(before: Mapping[str, Actor], now: Mapping[str, Actor]) -> dict[str, Actor]:
    grown = Counter(a.kind for a in now.values()) - Counter(a.kind for a in before.values())
    return {id: actor for id, actor in now.items() if id not in before and grown[actor.kind] > 0}


def living_actors() -> dict[str, Actor]:
    """Actors by id, without Ray's own services."""
    from ray._private import state

    table: dict[str, dict[str, Any]] = state.actors()
    return {
        id: Actor(actor["ActorClassName"], actor["Name"])
        for id, actor in table.items()
        if actor["State"] != "DEAD" and actor["ActorClassName"] not in RAY_SERVICES
    }


def free_cpus() -> float:
    """CPUs that nothing holds."""
    import ray

    return float(ray.available_resources().get("CPU", 0.0))


def _kill(id: str, actor: Actor) -> None:
    import ray
    from ray._private import worker

    try:
        for named in ray.util.list_named_actors(all_namespaces=True):
            if actor.name and named["name"] == actor.name:
                ray.kill(ray.get_actor(**named))
                return
        worker.global_worker.core_worker.kill_actor(ray.ActorID(bytes.fromhex(id)), True)
    except (ValueError, ray.exceptions.RayError):
        return  # gone by itself, or owned by another process: the message names it all the same
