"""Starts replicas as Ray actors, alone or several to a process."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from actors.host import Plan, Seat, shared, start_host
from actors.reasons import lasting, named_reason, own_error, reason
from actors.spawner import BrokenError


class RaySpawner:
    """The first replica of a small teacher joins the process that it shares; every other one has its own."""

    def __init__(self, teachers: Sequence[Plan], reserve: dict[str, float]) -> None:
        self._plans = {spec.name: (spec, config) for spec, config in teachers}
        self._reserve = reserve
        self._vacant: dict[str, list[Any]] = {}
        """For each teacher that has not taken its place yet: the shared host, once there is one."""
        self._groups: dict[str, list[Plan]] = {}
        for group in shared(teachers):
            place: list[Any] = []
            for spec, _ in group:
                self._vacant[spec.name], self._groups[spec.name] = place, group

    def start(self, teacher: str, name: str) -> RayBody:
        """Submit the load; it goes on by itself."""
        spec, config = self._plans[teacher]
        place = self._vacant.pop(teacher, None)
        if place is None:
            return RayBody(Seat(start_host([(spec, config)]), teacher), spec, name, alone=True)
        if not place:
            place.append(start_host(self._groups[teacher]))
        return RayBody(Seat(place[0], teacher), spec, name, alone=False)

    def room(self, teacher: str) -> bool:
        """Whether a replica fits in what is free, with the reserve left over."""
        import ray

        _, config = self._plans[teacher]
        free: Any = ray.available_resources
        have = free()
        return all(
            have.get(kind, 0.0) - self._reserve.get(kind, 0.0) >= need
            for kind, need in (("CPU", config.num_cpus), ("GPU", config.num_gpus))
            if need > 0
        )

    def room_text(self) -> str:
        """CPUs and GPUs that are free."""
        import ray

        free: Any = ray.available_resources
        have = free()
        return f"the cluster has {have.get('CPU', 0):g} CPUs and {have.get('GPU', 0):g} GPUs free"


class RayBody:
    """A teacher's seat in an actor."""

    def __init__(self, seat: Seat, spec: Any, name: str, *, alone: bool) -> None:
        self.handle = seat
        self.ready: Future[Any] = Future()
        self._alone = alone
        self._refused = False
        self._load = seat.load(spec, name).future()
        self._load.add_done_callback(self._loaded)

    def _loaded(self, described: Future[Any]) -> None:
        error = described.exception()
        if error is None:
            self.ready.set_result(described.result())
            return
        self._refused = own_error(error) is not None or "tutelage.errors." in str(error) or lasting(error)
        self.ready.set_exception(BrokenError(named_reason(error)) if self._refused else error)

    def card(self) -> dict[str, str]:
        """What the teacher says of itself."""
        card: dict[str, str] = self.ready.result()
        return card

    def ping(self) -> Future[Any]:
        """A teacher does one call after another, so this one ends when those before it have."""
        future: Future[Any] = self.handle.describe.remote().future()
        return future

    def why(self, error: BaseException | None) -> str:
        """The error in a line."""
        return "no reason known" if error is None else reason(error)

    def end(self) -> None:
        """Kill the actor, also one that hangs; neighbours of a teacher that would not load live on."""
        import ray

        if self._alone or not self._refused:
            ray.kill(self.handle.host)
