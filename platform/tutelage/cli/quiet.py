"""Keeps libraries off the terminal. Call before they are imported; what the user has set stays."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import MutableMapping
from pathlib import Path

QUIET_ENVIRONMENT = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    "GRPC_VERBOSITY": "ERROR",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_USAGE_STATS_PROMPT_ENABLED": "0",
    "RAY_TRAIN_ENABLE_WORKER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}
"""Variables that child processes and Ray workers inherit."""

GPU_DEVICES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dri/renderD128", "/dev/accel")

QUIET_LOGGERS = (
    *("ray", "ray.serve", "ray.train", "ray.tune", "transformers", "huggingface_hub", "DeepSpeed"),
    *("deepspeed", "torch", "onnxscript", "onnxruntime", "asyncio", "filelock", "fsspec"),
)


def quiet_libraries(environ: MutableMapping[str, str] | None = None) -> None:
    """Set the variables, log levels and warning filters that silence Ray, transformers, DeepSpeed and torch.

    A variable that is set already keeps its value. `PYTHONWARNINGS` or `-W` of the user keeps all warnings.
    """
    environ = os.environ if environ is None else environ
    for name, value in QUIET_ENVIRONMENT.items():
        environ.setdefault(name, value)
    if not any(Path(device).exists() for device in GPU_DEVICES):
        # DeepSpeed says at each import that it found no GPU, unless it is told not to look.
        environ.setdefault("DS_ACCELERATOR", "cpu")
    for name in QUIET_LOGGERS:
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.ERROR)
    if not environ.get("PYTHONWARNINGS"):
        for category in (FutureWarning, DeprecationWarning, UserWarning, ResourceWarning):
            warnings.filterwarnings("ignore", category=category)
