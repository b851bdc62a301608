"""The fleet on Ray: the supervisor as an actor, the replicas that it starts, and the driver's hold on both.

A replica reserves `num_cpus` and `num_gpus` of its teacher; fractions go to Ray as they are, so
`num_gpus: 0.25` puts four replicas, of one teacher or of several, on one card. Ray counts shares and
divides nothing: the memory of all who share a card must fit.

The driver owns the supervisor, and the supervisor owns the replicas. When an owner dies, however it dies,
Ray ends what it owns, so nothing is left behind.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from actors.clock import SystemClock
from actors.host import Plan
from actors.members import Load, Members, RayMembers
from actors.ray_spawner import RaySpawner
from actors.reasons import reason
from actors.silence import LOOK_S
from actors.supervisor import Bounds, Supervisor
from tutelage.config.models import TeacherConfig
from tutelage.config.runtime import StreamConfig
from tutelage.errors import TeacherError
from tutelage.progress import Stage
from tutelage.run_log import speak

TICK_S = 0.2
"""Time between two looks of the supervisor at its replicas."""
WATCH_S = 30.0
"""Longest time that a question for a change of the roster is left open."""
STOP_S = 5.0


class SupervisorActor:
    """The supervisor with a heart-beat, and a call that waits for changes; for any number of workers."""

    def __init__(self, teachers: Sequence[Plan], stream: StreamConfig, reserve: dict[str, float]) -> None:
        speak()
        bounds = {spec.name: Bounds(config.min_replicas, config.most_replicas) for spec, config in teachers}
        self._inner = Supervisor(bounds, RaySpawner(teachers, reserve), stream, SystemClock())
        self._inner.tick()
        self._incarnation = time.time_ns()
        self._beat: asyncio.Task[None] | None = None
        self._changed = asyncio.Condition()

    async def watch(self, teacher: str, known: Any) -> tuple[Any, list[tuple[str, Any]], dict[str, Any]]:
        """Version and roster, as soon as the version is another one than `known`."""
        self._live()
        end = time.monotonic() + WATCH_S
        while self._version(teacher) == known and (left_s := end - time.monotonic()) > 0:
            await self._next_change(left_s)
        return (self._version(teacher), *self._inner.roster(teacher))

    async def settled(self) -> tuple[str, list[dict[str, str]]]:
        """Wait until every teacher has its least replicas: their cards; or why a teacher cannot load."""
        self._live()
        while not self._inner.settled():
            await self._next_change(WATCH_S)
        cards = [card for teacher in self._inner.state() for card in self._inner.cards(teacher)]
        return self._inner.broken(), cards

    async def lost(self, teacher: str, name: str, why: str) -> None:
        """A worker found a replica gone, hung or wrong."""
        self._live()
        self._inner.lost(teacher, name, why)
        self._inner.tick()
        await self._tell()

    async def report(self, teacher: str, load: Load) -> None:
        """A worker says how busy it keeps a teacher."""
        self._live()
        self._inner.report(teacher, load)

    async def state(self) -> dict[str, dict[str, int]]:
        """Numbers for a person."""
        self._live()
        return self._inner.state()

    async def end(self) -> None:
        """End all replicas."""
        self._inner.end()

    def _version(self, teacher: str) -> tuple[int, int]:
        # An actor that was started again counts from 0 again.
        return self._incarnation, self._inner.version(teacher)

    def _live(self) -> None:
        """Every call comes by here, since a supervisor that was started again may be asked anything first."""
        if self._beat is None:
            self._beat = asyncio.get_running_loop().create_task(self._heart())

    async def _heart(self) -> None:
        while True:
            self._inner.tick()
            await self._tell()
            await asyncio.sleep(TICK_S)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _next_change(self, timeout_s: float) -> None:
        async with self._changed:
            try:
                await asyncio.wait_for(self._changed.wait(), timeout_s)
            except TimeoutError:
                return


class Fleet:
    """The driver's hold on the replicas of all teachers. They are started at once, in the background."""

    def __init__(
        self,
        teachers: Sequence[Plan],
        stream: StreamConfig | None = None,
        reserve: dict[str, float] | None = None,
    ) -> None:
        """Args:
        teachers: what each replica loads, and how many there may be.
        stream: patience, pauses and targets; defaults when null.
        reserve: CPUs and GPUs that replicas beyond the least number leave free for trainings to come.
        """
        import ray

        remote: Any = ray.remote
        actor = remote(SupervisorActor).options(num_cpus=0, max_restarts=-1, max_concurrency=1000)
        self._supervisor: Any = actor.remote(list(teachers), stream or StreamConfig(), reserve or {})
        self._members: dict[str, Members] = {
            spec.name: RayMembers(spec.name, self._supervisor, config.batch_tokens)
            for spec, config in teachers
        }

    @property
    def members(self) -> dict[str, Members]:
        """Who may be asked for each teacher; they may be sent to other processes."""
        return self._members

    def ready(self, deadline_s: float, stage: Stage | None = None) -> list[dict[str, str]]:
        """Wait until every teacher has its least number of replicas, and say what they are.

        `stage` is told meanwhile who is waited for.

        Raises TeacherError with the reason of a teacher that cannot load.
        """
        import ray

        try:
            settled, begin = self._supervisor.settled.remote(), time.monotonic()
            while not ray.wait([settled], timeout=min(LOOK_S, deadline_s))[0] and stage is not None:
                waited = time.monotonic() - begin
                if waited > deadline_s:
                    break
                stage.waits(f"teachers load: {self._counts()} after {waited:.0f} s")
            if stage is not None:
                stage.waits("")
            broken, cards = ray.get(settled, timeout=max(0.0, deadline_s - (time.monotonic() - begin)))
        except ray.exceptions.GetTimeoutError as error:
            free: Any = ray.available_resources  # Ray leaves it unannotated
            raise TeacherError(
                f"the teachers did not load within {deadline_s:g} s: the cluster has {free()} free",
                fix="lower teachers.*.min_replicas, num_cpus or num_gpus, or add nodes",
            ) from error
        except ray.exceptions.RayError as error:
            raise TeacherError(
                f"the fleet cannot be reached: {reason(error)}", fix="repeat the command"
            ) from error
        if broken:
            raise TeacherError(f"a teacher cannot load: {broken}", fix="check the model's folder")
        found: list[dict[str, str]] = cards
        return found

    def _counts(self) -> str:
        import ray

        try:
            return ", ".join(f"{name} {one['replicas']} ready" for name, one in self.state().items())
        except (ray.exceptions.RayError, TimeoutError):
            return "nothing is heard of them"

    def state(self) -> dict[str, dict[str, int]]:
        """For each teacher: replicas, starting, draining, respawns, added, removed."""
        import ray

        found: dict[str, dict[str, int]] = ray.get(self._supervisor.state.remote(), timeout=STOP_S)
        return found

    def stop(self) -> None:
        """End all replicas, and the supervisor."""
        import ray

        if self._supervisor is None:
            return
        # Without an answer its replicas end all the same, as soon as Ray sees that their owner is gone.
        with suppress(ray.exceptions.RayError):
            ray.get(self._supervisor.end.remote(), timeout=STOP_S)
        ray.kill(self._supervisor)
        self._supervisor = None


def threads_of(config: TeacherConfig) -> int:
    """Intra-op threads of one replica on CPU."""
    return config.threads or max(1, math.ceil(config.num_cpus))
