"""Teachers of real payload sizes and a fixed pace, which need no core: for what the stream itself costs.

Shapes: N examples, P positions of one example, V classes or vocabulary.
"""

from __future__ import annotations

import os
import time
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from tutelage.signals.allocation import allocate
from tutelage.signals.exchange import Reply, Request
from tutelage.signals.packet import Column, Packet, join
from tutelage.signals.payloads import encode
from tutelage.signals.payloads.wire import pack_ids
from tutelage.signals.spec import PayloadSpec


@cache
def example(spec: PayloadSpec, positions: int) -> Packet:
    """The packet of one example of peaked random logits (normal, standard deviation 3)."""
    generator = torch.Generator().manual_seed(positions)
    values_PV = 3 * torch.randn(positions, spec.width, generator=generator)
    lengths_N = np.array([positions], np.int32)
    request = Request(b"d" * 16, [b"e" * 16], lengths_N, spec)
    return encode(spec, values_PV, lengths_N, request)


@cache
def canned(spec: PayloadSpec, lengths: tuple[int, ...]) -> Packet:
    """A packet for examples of these lengths. It has the right size and shape, and means nothing."""
    return join([example(spec, positions) for positions in lengths])


def shared(request: Request) -> Packet:
    """Random labels, as many as this teacher is to draw from a mixture."""
    spec, lengths_N = request.spec, request.positions_N
    assert request.shares_NK is not None
    counts_R = allocate(spec.seed, request.examples, lengths_N, request.shares_NK, spec.entries)[
        :, spec.member
    ]
    ids = torch.randint(0, spec.width, (int(counts_R.sum()),))
    example_R = np.repeat(np.arange(len(lengths_N)), lengths_N)
    rows_N = np.bincount(example_R, counts_R, minlength=len(lengths_N)).astype(np.int32)
    return Packet(lengths_N, {"ids": Column(pack_ids(ids, spec.width), rows_N)})


class PacedTeacher:
    """Answers one request after another, each in so many seconds, as a teacher on a card of its own."""

    def __init__(self, name: str, latency_s: float) -> None:
        self._name = name
        self._latency_s = latency_s

    def describe(self) -> dict[str, str]:
        """Facts about the replica."""
        return {"replica": f"{self._name}-0", "pid": str(os.getpid()), "device": "none"}

    def score(self, request: Request) -> Reply:
        """A canned packet."""
        begin = time.perf_counter()
        lengths = tuple(request.positions_N.tolist())
        packet = shared(request) if request.spec.mixture else canned(request.spec, lengths)
        time.sleep(max(0.0, self._latency_s - (time.perf_counter() - begin)))
        return Reply(request.digest, packet, self._name, f"{self._name}-0", time.perf_counter() - begin)

    def head(self) -> NDArray[np.float32]:
        """A paced teacher has none. Raises ValueError."""
        raise ValueError("a paced teacher has no vocabulary head")
