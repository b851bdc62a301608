"""Which examples stand together in a step, and which worker takes which part of them.

Legend: N examples, B batch. A position is an index into the selection that is trained on.

The loss of a step is a sum over examples divided by the size of the *global* batch, never a mean of
means. Then the gradient of a step is the same for any number of workers and any micro-batch size, also
when the last batch of an epoch is short and micro-batches differ in size or are empty.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CHUNK_BATCHES = 20
"""Batches whose examples are sorted by length together: little padding, still a random order."""


class BatchPlan:
    """The batches of every epoch, a pure function of (lengths, batch_size, seed, epoch).

    Args:
        lengths: int32[N], tokens of each example.
        batch_size: examples of one optimiser step over all workers.
        seed: any non-negative integer.
    """

    def __init__(self, lengths: NDArray[np.int32], batch_size: int, seed: int) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be 1 or more")
        if lengths.ndim != 1:
            raise ValueError(f"lengths has shape {lengths.shape}; it must be N")
        self.lengths = lengths
        self.batch_size = batch_size
        self.seed = seed

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one epoch, the short one included."""
        return -(-len(self.lengths) // self.batch_size)

    def epoch(self, e: int) -> list[NDArray[np.int64]]:
        """Positions of every batch of epoch `e`, each position once; only the last batch may be short.

        Shuffle all, sort chunks of 20 batches by length, cut into batches, shuffle the batches.
        """
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, e])))
        order = self._shuffled(rng)
        chunk = CHUNK_BATCHES * self.batch_size
        for start in range(0, len(order), chunk):
            part = order[start : start + chunk]
            order[start : start + chunk] = part[np.argsort(self.lengths[part], kind="stable")]
        batches = [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]
        whole = [batch for batch in batches if len(batch) == self.batch_size]
        return [whole[i] for i in rng.permutation(len(whole))] + batches[len(whole) :]

    def _shuffled(self, rng: np.random.Generator) -> NDArray[np.int64]:
        return rng.permutation(len(self.lengths)).astype(np.int64)


class ReplayPlan(BatchPlan):
    """New examples once an epoch, among them replayed ones, so many that they make up a share of all.

    Args:
        lengths: int32[N], tokens of each example.
        batch_size: examples of one optimiser step over all workers.
        seed: any non-negative integer.
        replayed: bool[N], which examples are replayed.
        share: of the replayed among those of an epoch, below 1.
    """

    def __init__(
        self,
        lengths: NDArray[np.int32],
        batch_size: int,
        seed: int,
        replayed: NDArray[np.bool_],
        share: float,
    ) -> None:
        super().__init__(lengths, batch_size, seed)
        self._new, self._old = np.flatnonzero(~replayed), np.flatnonzero(replayed)
        self._draws = round(len(self._new) * share / (1 - share)) if len(self._old) else 0

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one epoch, the short one included."""
        return -(-(len(self._new) + self._draws) // self.batch_size)

    def _shuffled(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Each new example once; no replayed one twice as long as there are enough of them."""
        rounds = -(-self._draws // max(1, len(self._old)))
        drawn = [rng.permutation(self._old) for _ in range(rounds)]
        replayed = np.concatenate([self._old[:0], *drawn])[: self._draws]
        return rng.permutation(np.concatenate([self._new, replayed])).astype(np.int64)


def shard(
    batch: NDArray[np.int64], workers: int, rank: int, micro_batch: int, batch_size: int | None = None
) -> list[NDArray[np.int64]]:
    """The micro-batches of one worker: contiguous parts of `batch`, over all ranks each position once.

    Every rank gets the same number of micro-batches, `batch_size / (workers * micro_batch)`. In a short
    batch the rows are spread evenly over the ranks, and the last micro-batches are short or empty.

    Args:
        batch: positions of one step, int64[B].
        workers: ranks of the training.
        rank: this worker, from 0.
        micro_batch: examples of one forward pass.
        batch_size: the full batch size, so that a short batch gives as many micro-batches as the others;
            the smallest that holds `batch` when null.

    Raises:
        ValueError: numbers that do not fit together.
    """
    if not 0 <= rank < workers or micro_batch < 1:
        raise ValueError(f"rank {rank} of {workers} workers with micro_batch {micro_batch} cannot be")
    stride = workers * micro_batch
    count = -(-(batch_size or len(batch)) // stride)
    if batch_size is not None and (batch_size % stride or len(batch) > batch_size):
        raise ValueError(
            f"batch_size {batch_size} must divide by workers {workers} * micro_batch {micro_batch} "
            f"and hold the batch of {len(batch)}"
        )
    start, stop = rank * len(batch) // workers, (rank + 1) * len(batch) // workers
    mine = batch[start:stop]
    return [mine[i * micro_batch : (i + 1) * micro_batch] for i in range(count)]
