"""What a figure was measured on: the machine, the packages, the commit."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tutelage.report.figures import Machine

PACKAGES = ("ray", "torch", "transformers", "peft", "deepspeed", "onnxruntime", "pyarrow", "numpy")


def machine() -> Machine:
    """The machine that this process runs on."""
    import psutil

    from tutelage.report.figures import Machine

    return Machine(
        cpu=_cpu_name(),
        cores=os.cpu_count(),
        memory_gb=round(psutil.virtual_memory().total / 2**30, 1),
        gpu=_output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader"),
        os=f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
    )


def package_versions() -> dict[str, str]:
    """Versions of the packages that decide a result, and of tutelage itself."""
    from tutelage import __version__

    found = {"tutelage": __version__}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """The commit of the checkout that tutelage runs from; None for an installed package."""
    folder = Path(__file__).resolve().parents[3]
    return _output("git", "-C", str(folder), "rev-parse", "HEAD") if (folder / ".git").exists() else None


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _output(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.strip().splitlines()
    return lines[0].strip() if done.returncode == 0 and lines else None
