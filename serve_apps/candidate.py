"""A process that proves a version before any route moves to it: it loads it, answers its probes, and ends."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from serve_apps.rollout import Tell
from serve_apps.targets import Target
from tutelage.errors import DeployError


class Candidate:
    """Loads as a replica does; has the CPUs of one."""

    def here(self) -> None:
        """Returns when the process has its CPUs."""

    def prove(self, target: Target) -> None:
        """Raises ModelError where the version is not what was exported."""
        from serve_apps.predictor import Predictor

        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        Predictor(Path(target.folder), target.config.variant, target.config.threads)


def prove(target: Target, limit_s: float, tell: Tell) -> None:
    """Run a candidate where there is room for a replica.

    Raises:
        DeployError: no room in `limit_s` seconds, or the candidate failed; with its own reason.
    """
    import ray

    from actors.reasons import own_error, reason

    deadline = time.monotonic() + limit_s
    cpus = f"{target.config.cpus_per_replica:g} CPU"
    remote: Any = ray.remote(Candidate)
    actor = remote.options(num_cpus=target.config.cpus_per_replica, max_restarts=0).remote()
    waiting = f"waiting for {cpus}"
    try:
        tell(waiting)
        ray.get(actor.here.remote(), timeout=limit_s)
        waiting = "loading and answering its probes"
        tell(f"{target.ref} is {waiting}")
        ray.get(actor.prove.remote(target), timeout=max(1.0, deadline - time.monotonic()))
    except ray.exceptions.GetTimeoutError as late:
        raise DeployError(
            f"{target.ref} was still {waiting} after {limit_s:.0f} s",
            fix=f"a new version needs {cpus} beside the old one: free it (`ray status`), lower "
            f"serve.cpus_per_replica, or do without answers meanwhile (`tutelage undeploy {target.name}`)",
        ) from late
    except ray.exceptions.RayError as failed:
        ours = own_error(failed)
        raise DeployError(
            f"{target.ref} failed before it took any request: {reason(failed)}",
            fix=ours.fix if ours else "look at the log of the candidate under /tmp/ray/session_latest/logs",
        ) from failed
    finally:
        ray.kill(actor)
