"""Keeps libraries off the terminal. Call before they are imported; what the user has set stays.

What is hidden where, and what checks it instead, is in docs/silenced.md.
"""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import MutableMapping
from pathlib import Path
from typing import TextIO

from tutelage.errors import StoreError
from tutelage.files import home

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


WARNINGS = "warnings.log"
"""In $TUTELAGE_HOME/logs: what Python's warnings say while a command runs."""

MOST_BYTES = 1_000_000
"""Of that file; the one before it is kept too."""


def quiet_libraries(environ: MutableMapping[str, str] | None = None) -> None:
    """Set variables and log levels that silence Ray, transformers, DeepSpeed, torch; warnings go to a file.

    A variable that is set already keeps its value. With `PYTHONWARNINGS` of the user warnings stay on stderr.
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
        warnings.showwarning = _keep


def _keep(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """One warning as a line of the file; a disk that takes none must not end the command."""
    words = " ".join(str(message).split())
    when = time.strftime("%Y-%m-%dT%H:%M:%S")
    try:
        folder = home() / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / WARNINGS
        if path.exists() and path.stat().st_size > MOST_BYTES:
            path.replace(path.with_suffix(".1.log"))
        with path.open("a", encoding="utf-8") as opened:
            opened.write(f"{when} {os.getpid()} {category.__name__} {filename}:{lineno}: {words}\n")
    except (OSError, StoreError):
        return
