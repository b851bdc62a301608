"""The check that every test of this folder ends with."""

from __future__ import annotations

import pytest
import ray

from actors.session import Session
from tests.ray.leftovers import free_cpus, leftovers, living_actors

pytestmark = pytest.mark.ray


class Lodger:
    def ping(self) -> str:
        return "here"


def test_an_actor_that_stays_is_named_and_killed(cluster: Session, namespace: str) -> None:
    """A detached actor is found by class and name, its CPU is missed, and then it is gone."""
    before, cpus = living_actors(), free_cpus()
    options = {"name": "lodger", "namespace": namespace, "lifetime": "detached", "num_cpus": 1}
    lodger = ray.remote(Lodger).options(**options).remote()
    assert ray.get(lodger.ping.remote()) == "here"
    said = leftovers(before, cpus, settle_s=0.2)
    assert said == f"actors left: Lodger lodger; CPUs free: {cpus - 1:g}, before: {cpus:g}"
    assert leftovers(before, cpus) == ""
    with pytest.raises(ValueError, match="lodger"):
        ray.get_actor("lodger", namespace=namespace)


def test_an_actor_without_a_handle_goes_by_itself(cluster: Session) -> None:
    """Nothing is left of an actor whose last handle is gone."""
    before, cpus = living_actors(), free_cpus()
    lodger = ray.remote(Lodger).options(num_cpus=1).remote()
    ray.get(lodger.ping.remote())
    del lodger
    assert leftovers(before, cpus) == ""
