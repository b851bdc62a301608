"""Numbers as they travel: floats as fp32, bf16 or fp16, labels in the fewest whole bytes that hold them.

Shapes: R rows, V classes or vocabulary.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tutelage.signals.sizes import id_bytes

FLOATS: dict[str, tuple[torch.dtype, type[np.generic]]] = {
    "fp32": (torch.float32, np.float32),
    "bf16": (torch.bfloat16, np.uint16),
    "fp16": (torch.float16, np.uint16),
}
"""Wire type -> what torch takes it for, and what numpy carries; bf16 and fp16 travel as bit patterns."""


def pack_floats(values: Tensor, dtype: str) -> NDArray[Any]:
    """Floats as `dtype`, rounded to nearest, ties to even."""
    kind, carrier = FLOATS[dtype]
    rounded = values.detach().to(kind).contiguous().cpu()
    if carrier is np.uint16:
        rounded = rounded.view(torch.int16)
    array: NDArray[Any] = rounded.numpy().view(carrier)
    return array


def unpack_floats(values: NDArray[Any], dtype: str, device: torch.device | str) -> Tensor:
    """fp32 on the device."""
    kind, carrier = FLOATS[dtype]
    if carrier is np.uint16:
        return on(values.view(np.int16), device).view(kind).float()
    return on(values, device)


def pack_ids(ids: Tensor, width: int) -> NDArray[Any]:
    """Labels in [0, width): uint16, uint32, or between them three bytes (uint8 [..., 3], lowest first)."""
    size = id_bytes(width)
    whole = ids.detach().contiguous().cpu().numpy()
    if size == 2:
        return whole.astype(np.uint16)
    if size == 4:
        return whole.astype(np.uint32)
    return np.ascontiguousarray(whole.astype("<u4").view(np.uint8).reshape(*whole.shape, 4)[..., :3])


def unpack_ids(values: NDArray[Any], width: int, device: torch.device | str) -> Tensor:
    """int64 on the device."""
    size = id_bytes(width)
    if size == 3:
        low = on(values, device).long()
        return low[..., 0] | (low[..., 1] << 8) | (low[..., 2] << 16)
    signed = values.view(np.int16 if size == 2 else np.int32)
    return on(signed, device).long() & (0xFFFF if size == 2 else 0xFFFFFFFF)


def largest_id(values: NDArray[Any], width: int) -> int:
    """The largest label of a wire array; -1 when it is empty."""
    if not values.size:
        return -1
    if id_bytes(width) != 3:
        return int(values.max())
    return int((values.astype(np.uint32) << np.array([0, 8, 16], np.uint32)).sum(-1).max())


def id_layout(width: int) -> tuple[type[np.generic], tuple[int, ...]]:
    """Type of a wire array of labels, and the shape behind its own axes."""
    size = id_bytes(width)
    kinds: dict[int, type[np.generic]] = {2: np.uint16, 3: np.uint8, 4: np.uint32}
    return kinds[size], (3,) if size == 3 else ()


def bad_floats(values: NDArray[Any], dtype: str) -> str | None:
    """'NaN', 'infinity' or 'NaN and infinity' when the wire array holds such, else None."""
    if values.dtype == np.uint16:
        top = np.uint16(0x7F80 if dtype == "bf16" else 0x7C00)
        magnitude = values & np.uint16(0x7FFF)
        nan, infinite = bool((magnitude > top).any()), bool((magnitude == top).any())
    elif np.isfinite(values).all():
        return None
    else:
        nan, infinite = bool(np.isnan(values).any()), bool(np.isinf(values).any())
    return " and ".join(name for name, found in (("NaN", nan), ("infinity", infinite)) if found) or None


def on(values: NDArray[Any], device: torch.device | str) -> Tensor:
    """The array as a tensor without a copy where it already lies on the device; it may be read-only."""
    return torch.utils.dlpack.from_dlpack(np.ascontiguousarray(values)).to(device)
