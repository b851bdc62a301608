"""Does this machine multiply bf16 faster than fp32? What `precision: auto` goes by.

python -m benchmarks.precision
"""

from __future__ import annotations

import time

import torch

from tutelage.cli.surroundings import machine
from tutelage.models.precision import cpu_flags, resolve_precision

SHAPES = ((1024, 384, 384), (1024, 384, 1536))
"""Rows (batch x tokens), inputs and outputs of MiniLM's linear layers."""
ROUNDS = 20


def seconds(shape: tuple[int, int, int], dtype: torch.dtype, device: str) -> float:
    """Median time of one matrix product."""
    rows, inputs, outputs = shape
    left = torch.randn(rows, inputs, device=device).to(dtype)
    right = torch.randn(inputs, outputs, device=device).to(dtype)
    times = []
    for _ in range(ROUNDS + 3):
        begin = time.perf_counter()
        product = left @ right
        if product.is_cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return sorted(times[3:])[ROUNDS // 2]


def main() -> None:
    """Print one line for each shape."""
    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    where = machine()
    print(f"{where.gpu or where.cpu}, {device}, 1 thread, torch {torch.__version__}")
    for shape in SHAPES:
        fp32, bf16 = (seconds(shape, dtype, device) for dtype in (torch.float32, torch.bfloat16))
        print(f"{shape}: fp32 {1e3 * fp32:7.2f} ms, bf16 {1e3 * bf16:7.2f} ms, bf16 / fp32 {bf16 / fp32:.2f}")
    cuda = torch.cuda.is_bf16_supported(including_emulation=False) if device == "cuda" else None
    print(f"precision: auto takes {resolve_precision('auto', cuda_bf16=cuda, cpu_flags=cpu_flags())}")


if __name__ == "__main__":
    main()
