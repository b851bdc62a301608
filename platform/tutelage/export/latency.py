"""How long an answer takes.

Legend: B batch, T tokens.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tutelage.export.session import Classifier

SHAPES = ((1, 16), (1, 48), (16, 48))
"""(batch, tokens) of the figures in a report: a short text, a long one, a full batch."""


@dataclass(frozen=True)
class Latency:
    """Times of one shape, after one call that is not counted."""

    batch: int
    tokens: int
    p50_ms: float
    p95_ms: float
    texts_per_s: float
    """Texts over all measured calls, by their summed time."""


def measure(
    session: Classifier,
    batch: int,
    tokens: int,
    vocab: int,
    runs: int,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> Latency:
    """Ask `session` `runs` times for `batch` texts of `tokens` random token ids below `vocab`.

    `clock` gives seconds. Raises ValueError when there is nothing to measure.
    """
    if min(batch, tokens, vocab, runs) < 1:
        raise ValueError(
            f"batch {batch}, tokens {tokens}, vocab {vocab} and runs {runs} must all be 1 or more"
        )
    ids_BT = np.random.default_rng(0).integers(0, vocab, (batch, tokens), dtype=np.int64)
    mask_BT = np.ones((batch, tokens), dtype=np.int64)
    session.logits(ids_BT, mask_BT)
    seconds = []
    for _ in range(runs):
        start = clock()
        session.logits(ids_BT, mask_BT)
        seconds.append(clock() - start)
    p50, p95 = np.percentile(seconds, [50, 95])
    total = sum(seconds)
    rate = batch * runs / total if total > 0 else float("inf")
    return Latency(batch, tokens, float(p50) * 1e3, float(p95) * 1e3, rate)
