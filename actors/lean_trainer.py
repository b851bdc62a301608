"""Ray's TorchTrainer with less to start, repeats for lost workers alone, and an end that can be asked for."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from actors.reasons import lasting, own_error, root
from tutelage.errors import TutelageError


class Ending:
    """Ends trainings that wait in threads, so that none calls Ray after the session has ended.

    Ray's native part ends the whole process, with exit code 1, when a thread does that.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._controllers: list[Any] = []
        self._asked = False

    def controller(self, start: Callable[[], Any]) -> Any:
        """Start a controller, unless the end was asked for: then InterruptedError."""
        with self._lock:
            if self._asked:
                raise InterruptedError("the command was stopped")
            self._controllers.append(start())
            return self._controllers[-1]

    @property
    def asked(self) -> bool:
        """Whether no more trainings may begin."""
        return self._asked

    def ask(self) -> None:
        """Kill the controllers; their workers end with them, and who waits for them hears of it."""
        import ray

        with self._lock:
            self._asked = True
            for controller in self._controllers:
                with suppress(ray.exceptions.RayError):
                    ray.kill(controller)


def lean_trainer(ending: Ending) -> Any:
    """The class of the trainer; its controllers are known to `ending`.

    Two helpers are left out that nothing here uses. One serves Ray Data shards, and rows come from Arrow
    files. The other asks the dashboard whether the controller lives, and cannot without a dashboard. Each
    imports Ray Train for seconds at every start.
    """
    import ray
    from ray._private import worker
    from ray.train.torch import TorchTrainer
    from ray.train.v2._internal.constants import get_env_vars_to_propagate
    from ray.train.v2._internal.execution.controller import TrainController
    from ray.train.v2._internal.execution.failure_handling import FailureDecision
    from ray.train.v2._internal.execution.failure_handling.default import DefaultFailurePolicy

    dashboard: Any = worker.get_dashboard_url  # Ray leaves it unannotated
    unused = {"DatasetsCallback"} | (set() if dashboard() else {"PlacementGroupCleanerCallback"})

    class LossesOnly(DefaultFailurePolicy):
        """Repeats a group that lost a worker; one that said what is wrong would say it again."""

        def make_decision(self, training_failed_error: Any) -> Any:
            decision: Any = super()
            if said(training_failed_error) or certain(training_failed_error):
                return FailureDecision.RAISE
            return decision.make_decision(training_failed_error)

    class LeanTrainer(TorchTrainer):
        def _initialize_and_run_controller(self, **parts: Any) -> Any:
            limits: Any = self.run_config.failure_config
            remote: Any = ray.remote
            native: Any = importlib.import_module("ray._raylet")
            here = {native.RAY_NODE_ID_KEY: ray.get_runtime_context().get_node_id()}
            actor = remote(
                num_cpus=0, label_selector=here, runtime_env={"env_vars": get_env_vars_to_propagate()}
            )(TrainController)
            controller = ending.controller(
                lambda: actor.remote(**{**parts, "failure_policy": LossesOnly(limits)})
            )
            ray.get(controller.run.remote())
            return ray.get(controller.get_result.remote())

        def _create_default_callbacks(self) -> list[Any]:
            base: Any = super()
            return [
                callback
                for callback in base._create_default_callbacks()
                if type(callback).__name__ not in unused
            ]

    return LeanTrainer


def certain(error: Any) -> BaseException | None:
    """What a worker's code raised and would raise again; None when workers were lost."""
    failures = getattr(error, "worker_failures", None) or {}
    return next((root(cause) for cause in failures.values() if lasting(cause)), None)


def said(error: Any) -> TutelageError | None:
    """The error of ours that a worker ended with; None when workers were lost or failed unforeseen."""
    failures = getattr(error, "worker_failures", None) or {}
    found = (own_error(cause) for cause in failures.values())
    return next((ours for ours in found if ours is not None), None)
