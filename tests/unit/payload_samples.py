"""Teachers' rows, requests and signals for the tests of payloads.

Shapes: N examples, P positions, R rows, V classes or vocabulary, K teachers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from tutelage.config.objectives import KL
from tutelage.objectives import Dense, Evidence, Signal, build_terms
from tutelage.signals.exchange import Reply, Request, batch_digest
from tutelage.signals.packet import Packet
from tutelage.signals.payloads import encode, signal_of
from tutelage.signals.spec import PayloadSpec
from tutelage.tasks.base import spread

POSITIONS = np.array([3, 1, 2, 4], np.int32)
SHORT = np.array([3, 1, 1, 4], np.int32)
"""A teacher that does not cover the last position of the third example."""

SPECS = {
    "dense": PayloadSpec("dense", 50),
    "dense bf16": PayloadSpec("dense", 50, "bf16"),
    "dense int8": PayloadSpec("dense", 50, "int8"),
    "hidden": PayloadSpec("hidden", 50),
    "hidden bf16": PayloadSpec("hidden", 50, "bf16"),
    "topk": PayloadSpec("topk", 50, "fp32", 8),
    "topk fp16, T=2": PayloadSpec("topk", 50, "fp16", 8, 2.0),
    "topk bf16, 3-byte ids": PayloadSpec("topk", 70_000, "bf16", 8),
    "sampled": PayloadSpec("sampled", 50, entries=12),
    "sampled, 3-byte ids": PayloadSpec("sampled", 70_000, entries=5, temperature=2.0, seed=3),
    "mixture": PayloadSpec("sampled", 50, entries=12, mixture="ab", member=1),
}


def digests(count: int) -> list[bytes]:
    return [f"example {n:08d}".encode() for n in range(count)]


def request(
    spec: PayloadSpec, positions_N: Sequence[int] | np.ndarray = POSITIONS, shares_K: Sequence[float] = ()
) -> Request:
    """A question about len(positions_N) examples; a mixture has shares of (1/6, 1/2, 1/3) unless given."""
    examples = digests(len(positions_N))
    shares = np.array([shares_K or (1 / 6, 1 / 2, 1 / 3)] * len(examples), np.float32)
    return Request(
        batch_digest(examples),
        examples,
        np.asarray(positions_N, np.int32),
        spec,
        shares_NK=shares if spec.mixture else None,
    )


def rows(spec: PayloadSpec, count: int = 9, seed: int = 0, size: float = 3.0) -> Tensor:
    return size * torch.randn(count, spec.width, generator=torch.Generator().manual_seed(seed))


def sample(name: str) -> tuple[Request, Packet]:
    """A request and its right answer, by a teacher with SHORT rows."""
    asked = request(SPECS[name])
    return asked, encode(asked.spec, rows(asked.spec), SHORT, asked)


def answer(asked: Request, packet: Packet) -> Reply:
    return Reply(asked.digest, packet, "teacher", "teacher#0", 0.0)


def signal(asked: Request, packet: Packet | None, head_VH: Tensor | None = None) -> Signal:
    """The signal for a student with one position for each asked one."""
    examples_P = torch.from_numpy(np.repeat(np.arange(len(asked)), asked.positions_N))
    return signal_of(
        asked.spec,
        packet,
        torch.zeros(len(examples_P), asked.spec.width if head_VH is None else len(head_VH)),
        examples_P,
        lambda values_RV, lengths_N: Dense(*spread(values_RV, lengths_N, examples_P)),
        head=head_VH,
        examples=asked.examples,
        shares_NK=asked.shares_NK,
    )


def kl_gradient(
    student_PV: Tensor, signals: Sequence[Signal], weights_KP: Tensor, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Loss [P] of the kl objective, and its gradient [P, V] for the student."""
    (term,) = build_terms([KL(type="kl", temperature=temperature)])
    student_PV = student_PV.clone().requires_grad_()
    loss_P = term.per_position(
        Evidence(student_PV, torch.full((len(student_PV),), -1), tuple(signals), weights_KP)
    )
    loss_P.sum().backward()
    assert student_PV.grad is not None
    return loss_P.detach(), student_PV.grad


def with_values(packet: Packet, name: str, values: np.ndarray) -> Packet:
    """The packet with another array in one column."""
    column = replace(packet.columns[name], values=values)
    return Packet(packet.lengths_N, {**packet.columns, name: column})
