"""Weights at addresses for which matrix products are reproducible."""

from __future__ import annotations

from typing import Any

from torch import Tensor

ALIGNMENT = 64
"""Bytes; what Intel asks for in "Getting reproducible results with oneMKL", and what torch allocates at."""


def aligned(tensor: Tensor) -> Tensor:
    """The tensor itself, or a copy of it where it lies in memory that torch did not choose."""
    if tensor.device.type == "cpu" and tensor.data_ptr() % ALIGNMENT:
        return tensor.clone()
    return tensor


def align(model: Any) -> Any:
    """Move the weights of a model that need it, in place.

    Weights are mapped from their file at whatever offset its header leaves, and on some processors the last
    bit of a matrix product depends on that: the same weights in two files would be two teachers. The price is
    that processes on one machine do not share the pages of a weight that was moved.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = aligned(tensor.data)
    return model
