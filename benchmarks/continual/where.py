"""What a figure was measured on, in one line."""

from __future__ import annotations

import os

import torch

from tutelage.cli.surroundings import machine


def where(device: str) -> str:
    """Machine, load, versions and threads of this process."""
    found = machine()
    gpu = f"on {found.gpu}, " if device != "cpu" else ""
    return (
        f"{found.cpu}, {found.cores} cores, {found.memory_gb} GiB, load {os.getloadavg()[0]:.1f}; "
        f"{found.os}; torch {torch.__version__}, {gpu}{torch.get_num_threads()} threads"
    )
