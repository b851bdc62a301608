"""Tensors in memory that the process already has.

glibc maps each large array anew and gives it back when it is freed, and trims its heap when enough of it is
free. On a CPU every step of a training then has its pages zeroed again: a fifth of the step for a causal-lm
of 8,192 words (docs/benchmarks.md).
"""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Parameters of mallopt(3)."""


def keep_freed_memory() -> bool:
    """Let this process use freed memory again instead of giving it back; True where libc can.

    To be called once models are loaded: what loading frees is given back before.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # macOS, musl
        return False
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, -1))
