"""Logits of a student and its teachers over a vocabulary, without a model.

They have the shape of a language model's: unigram log-probabilities that fall with the rank
as in Zipf's law, noise on every label, and a few candidates, which the context decides. In each position the
candidates stand out by an amount of its own, so that some positions are nearly certain and others open.
Teachers share that, and differ in noise and in how much they make of each candidate. The student knows the
context alone: equal leads, and errors that are the same wherever the context is. The share of the most
probable label and the entropy that this gives are printed above the figures.

Shapes: P positions, V vocabulary, F features of the hidden state, C contexts, N candidates.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

LENGTH = 64
"""Positions of one example."""
CONTEXTS, FEATURES = 16, 32
CANDIDATES = 40


@dataclass(frozen=True)
class World:
    """One chunk of positions, as the student and five teachers see it."""

    student_PV: Tensor
    teachers: list[Tensor]
    hidden_PF: Tensor
    examples: list[bytes]


def simulate(chunk: int, positions: int, vocabulary: int, teachers: int = 5) -> World:
    """Logits of a chunk. The contexts are those of every chunk."""
    common = torch.Generator().manual_seed(0)
    rank_V = torch.randperm(vocabulary, generator=common)
    unigram_V = -torch.log(rank_V + 2.7)
    centre_CF = torch.randn(CONTEXTS, FEATURES, generator=common)
    likely_CN = torch.multinomial(unigram_V.exp(), CONTEXTS * CANDIDATES, generator=common).view(CONTEXTS, -1)
    noise_CV = 0.8 * torch.randn(CONTEXTS, vocabulary, generator=common)
    error_CV = 0.8 * torch.randn(CONTEXTS, vocabulary, generator=common)
    own = torch.Generator().manual_seed(1 + chunk)
    context_P = torch.randint(0, CONTEXTS, (positions,), generator=own)
    hidden_PF = centre_CF[context_P] + 0.5 * torch.randn(positions, FEATURES, generator=own)
    sureness_P1 = 3 * torch.rand(positions, 1, generator=own) + 0.5
    stand_PN = sureness_P1 * torch.empty(positions, CANDIDATES).exponential_(generator=own)
    base_PV = unigram_V + noise_CV[context_P]
    likely_PN = likely_CN[context_P]

    def teacher() -> Tensor:
        own_PN = 3 + stand_PN * (1 + 0.15 * torch.randn(stand_PN.shape, generator=own))
        own_PV = base_PV + 0.4 * torch.randn(base_PV.shape, generator=own)
        return own_PV.scatter_add_(1, likely_PN, own_PN)

    # What a small student misses, it misses wherever the context is the same.
    student_PV = base_PV + error_CV[context_P]
    student_PV.scatter_add_(1, likely_PN, torch.full_like(stand_PN, 4.4))
    names = [f"{chunk} {n:06d}".encode() for n in range(positions // LENGTH)]
    return World(student_PV, [teacher() for _ in range(teachers)], hidden_PF, names)
