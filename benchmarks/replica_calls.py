"""What a call of a replica costs as the channel makes it, against a plain `ray.get`.

    python -m benchmarks.replica_calls

An actor gives back an array of 1 kB or 1 MB; each way is timed one call at a time and with eight under way.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import ray

from actors.replica import ray_pending
from actors.session import session
from tutelage.cli.surroundings import machine
from tutelage.config.runtime import RayConfig
from tutelage.files import home

CALLS, ROUNDS, AHEAD = 300, 2, 8


class Giver:
    """Gives back an array made before."""

    def __init__(self) -> None:
        self._arrays = {size: np.zeros(size, np.uint8) for size in (1_000, 1_000_000)}

    def give(self, size: int) -> Any:
        """So many bytes."""
        return self._arrays[size]


def timed(once: Callable[[], Any], calls: int) -> float:
    """Median microseconds."""
    for _ in range(20):
        once()
    times = []
    for _ in range(calls):
        begin = time.perf_counter()
        once()
        times.append(time.perf_counter() - begin)
    return 1e6 * median(times)


def main() -> None:
    """Print a table."""
    with session(RayConfig(num_cpus=2, object_store_mb=500, dashboard="off"), home()):
        actor: Any = ray.remote(Giver).options(num_cpus=0.1).remote()

        def plain(size: int, calls: int = 1) -> None:
            for reference in [actor.give.remote(size) for _ in range(calls)]:
                ray.get(reference, timeout=60)

        def channel(size: int, calls: int = 1) -> None:
            for pending in [ray_pending(actor.give.remote(size)) for _ in range(calls)]:
                pending.take(60)

        where = machine()
        print(f"{where.cpu}, {where.cores} cores, {where.os}; median of {CALLS} calls, {ROUNDS} rounds")
        print("| reply | under way | ray.get, us a call | channel, us a call |\n|---|---|---|---|")
        for size in (1_000, 1_000_000):
            for ahead in (1, AHEAD):
                rounds: dict[str, list[str]] = {"plain": [], "channel": []}
                for _ in range(ROUNDS):
                    for name, way in (("plain", plain), ("channel", channel)):
                        us = timed(partial(way, size, ahead), CALLS // ahead) / ahead
                        rounds[name].append(f"{us:.0f}")
                both = " | ".join(", ".join(figures) for figures in rounds.values())
                print(f"| {size // 1000} kB | {ahead} | {both} |")
        ray.kill(actor)


if __name__ == "__main__":
    main()
