"""One endpoint: replicas that answer for one version, each with its own queue of batches."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ray import serve

from serve_apps.app import build_app
from serve_apps.batching import Batches
from serve_apps.predictor import Predictor
from serve_apps.private_port import keep_private
from serve_apps.ray_serve import REQUEST_S
from serve_apps.schemas import VersionRef
from serve_apps.targets import DEPLOYMENT, Target
from tutelage.config.runtime import ServeConfig


class Replica:
    """Loads the version, then answers. A version that cannot be loaded is never routed to."""

    def __init__(self, folder: str, version: VersionRef, config: ServeConfig) -> None:
        # Its pool would take every core of the machine, whatever this replica was given.
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        keep_private()
        self._predictor = Predictor(Path(folder), config.variant, config.threads)
        self._version = version
        self._config = config
        self._batches = Batches(
            self._predictor.predict,
            max_tokens=self._predictor.spec.max_tokens,
            max_requests=config.max_batch,
            wait_s=config.batch_wait_ms / 1000,
        )

    def reconfigure(self, target: dict[str, Any]) -> None:
        """Serve asks for it beside a `user_config`; what changes in that comes with a new replica."""

    def __serve_build_asgi_app__(self) -> Any:
        """Called by Serve after the constructor."""
        spec = self._predictor.spec
        return build_app(
            self._batches.answer,
            self._version,
            labels=spec.labels,
            max_tokens=spec.max_tokens,
            config=self._config,
            answers_with=self._predictor.answers_with,
        )


def application(target: Target) -> Any:
    """The Serve application of an endpoint; the folder must be readable on every node with a replica."""
    config = target.config
    deployment = serve.deployment(
        # One name for all versions: Serve replaces replicas without a gap within one deployment alone.
        name=DEPLOYMENT,
        # Kept by Serve, for whoever replaces it and for `endpoints ls`.
        user_config=target.model_dump(mode="json"),
        num_replicas=config.replicas or 1,
        ray_actor_options={"num_cpus": config.cpus_per_replica},
        # The app itself refuses with 503 beyond max_queued; Serve must let it see the request.
        max_ongoing_requests=2 * (config.max_queued + config.max_batch),
        # A new replica starts before an old one stops: requests never wait for a start.
        max_surge_percent=100,
        # Each check is one call; until one fails, a replica that was killed is not replaced.
        health_check_period_s=1,
        graceful_shutdown_wait_loop_s=0.2,
        # Whoever was let in is answered, in a replacement too.
        graceful_shutdown_timeout_s=REQUEST_S + 5,
        # A version that does not load will not load the third time either.
        max_constructor_retry_count=1,
        logging_config={"log_level": "WARNING", "enable_access_log": False},
    )(serve.ingress()(Replica))
    # Equal targets are one version to Serve: what runs already is not replaced.
    versioned = deployment.options(version=target.code, _internal=True)
    return versioned.bind(target.folder, target.version, config)
