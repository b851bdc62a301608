"""How many replicas an endpoint gets when its settings do not say."""

from __future__ import annotations

from typing import Any

from tutelage.config.runtime import ServeConfig

WANTED = 2
"""With two, one that dies takes no request's answer with it and no second from those that come next."""


def fitting(free_cpus: float, cpus_per_replica: float) -> int:
    """WANTED replicas where they and those that replace them one day fit side by side, else one."""
    return WANTED if free_cpus >= 2 * WANTED * cpus_per_replica else 1


def sized(config: ServeConfig, own: int) -> ServeConfig:
    """The settings with a number of replicas, by the CPUs that are free and those that `own` replicas hold.

    Args:
        config: the `serve` section; a number that it gives is kept.
        own: replicas that the endpoint has now.
    """
    if config.replicas is not None:
        return config
    import ray

    available: Any = ray.available_resources  # Ray leaves it unannotated
    free = float(available().get("CPU", 0.0)) + own * config.cpus_per_replica
    return config.model_copy(update={"replicas": fitting(free, config.cpus_per_replica)})
