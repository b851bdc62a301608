"""Which floating type a training takes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tutelage.config.train import Precision

Type = Literal["fp32", "bf16", "fp16"]


def resolve_precision(precision: Precision, *, cuda_bf16: bool | None, cpu_flags: frozenset[str]) -> Type:
    """`auto` becomes bf16 where the hardware multiplies bf16 matrices, else fp32.

    `cuda_bf16` is None without a GPU. On a CPU only AMX makes bf16 the faster type: with AVX512-BF16 alone
    a matrix product takes 1.4 to 1.7 times as long as in fp32 (benchmarks/precision.py).
    """
    if precision != "auto":
        return precision
    if cuda_bf16 is not None:
        return "bf16" if cuda_bf16 else "fp32"
    return "bf16" if "amx_bf16" in cpu_flags else "fp32"


def cpu_flags(info: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Instruction set flags of this machine's CPU; empty where Linux does not tell them."""
    if not info.exists():
        return frozenset()
    for line in info.read_text(encoding="utf-8").splitlines():
        if line.startswith(("flags", "Features")):
            return frozenset(line.partition(":")[2].split())
    return frozenset()
