"""Who makes which draw: numbers that teachers and student compute alike, so that they need not travel.

Shapes: N examples, P positions of one example, R rows (positions of all examples), K teachers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from tutelage.signals.packet import Counts

Floats = NDArray[np.float64]


def uniforms(seed: int, purpose: str, example: bytes, positions: int) -> Floats:
    """A number in [0, 1) for each position, fp64 [P], by Philox4x64 keyed with all arguments but the last.

    A longer example begins with the numbers of a shorter one, so a teacher that covers fewer positions
    computes the same for those.
    """
    key = blake3(f"{purpose}:{seed}:".encode() + example).digest(16)
    # Philox's own type says int, and it takes its 128 bits as one.
    generator: Any = np.random.Philox(key=int.from_bytes(key, "little"))
    return np.random.Generator(generator).random(positions)


def allocate(
    seed: int,
    examples: Sequence[bytes],
    lengths_N: Counts,
    shares_NK: NDArray[np.floating[Any]],
    draws: int,
) -> NDArray[np.int64]:
    """How many of a position's draws each teacher makes, int64 [R, K].

    Systematic sampling with one uniform u a position: n_k = floor(N C_k + u) - floor(N C_(k-1) + u), with C
    the running sum of the shares. So each row sums to N, E[n_k] = N w_k, and n_k is N w_k rounded up or down.

    Raises:
        ValueError: shares that are negative, not finite, sum to 0, or are not one row for each example.
    """
    shares = np.asarray(shares_NK, np.float64)
    if shares.ndim != 2 or len(shares) != len(examples):
        raise ValueError(f"shares {shares.shape} for {len(examples)} examples")
    totals = shares.sum(1)
    if not (np.isfinite(shares).all() and (shares >= 0).all() and (totals > 0).all()):
        raise ValueError("shares must be finite, not negative, and sum to more than 0 for each example")
    if not examples:
        return np.zeros((0, shares.shape[1]), np.int64)
    running_NK = np.cumsum(shares, axis=1)
    running_NK /= running_NK[:, -1:]
    u_R = per_row(seed, "allocation", examples, lengths_N)
    edges_RK = np.floor(draws * np.repeat(running_NK, lengths_N, axis=0) + u_R[:, None]).astype(np.int64)
    # A u next to 1 rounds N + u up to N + 1; the last edge is N whatever u is.
    edges_RK = np.minimum(edges_RK, draws)
    edges_RK[:, -1] = draws
    return np.diff(edges_RK, axis=1, prepend=0)


def per_row(seed: int, purpose: str, examples: Sequence[bytes], lengths_N: Counts) -> Floats:
    """`uniforms` of all examples, one after another: fp64 [R]."""
    parts = [uniforms(seed, purpose, e, int(n)) for e, n in zip(examples, lengths_N, strict=True)]
    return np.concatenate(parts) if parts else np.zeros(0)
