"""The contracts of a loss term and of a combiner, and what they look at.

Shapes: B batch, P positions of all its examples, V classes or vocabulary, K teachers, k entries of a
top-k, R drawn labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Dense:
    """All logits of one teacher at temperature 1."""

    logits_PV: Tensor
    known_P: Tensor | None = None
    """False where the teacher covers no such position; None when it covers all."""


@dataclass(frozen=True, eq=False)
class TopK:
    """The k most probable labels of one teacher at temperature T; the rest is one tail bucket."""

    ids_Pk: Tensor
    log_p_Pk: Tensor
    """log softmax(z / T) over all V at these labels; what is missing to 1 is the tail."""
    temperature: float
    known_P: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Draws:
    """Labels drawn at temperature T, each with its share of its position's target.

    With draws of each teacher by itself, shares of a position sum to 1; with draws from the mixture of
    teachers they sum to 1 over all teachers, and the term gives this teacher no further weight but one: it
    divides by what `asked_P` sums to over the teachers that cover the position.
    """

    ids_R: Tensor
    positions_R: Tensor
    shares_R: Tensor
    temperature: float
    mixture: bool
    known_P: Tensor | None = None
    asked_P: Tensor | None = None
    """Mixture: the share of each position's draws that this teacher was to make, on average."""
    doubt_P: Tensor | None = None
    """Draws of one teacher: the entropy of its softmax(z) as a share of log V."""


Signal = Dense | TopK | Draws

STACKED = 1024
"""Up to so many classes all teachers are mixed in one product."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """What one micro-batch offers to the loss terms."""

    student_PV: Tensor
    """Student logits, in any floating type; terms compute in fp32."""
    labels_P: Tensor
    """Class index or token, or -1 where the position is unlabelled."""
    signals: tuple[Signal, ...] = ()
    """One for each teacher, in the order of the job; empty when there are none."""
    weights_KP: Tensor | None = None
    """What the combiner made of them. Each column sums to 1, or to 0 where no teacher covers the position."""
    champion: Signal | None = None
    """In an update: the version before, apart from the other teachers."""
    stored_PV: Tensor | None = None
    """In an update: logits stored with replayed texts, NaN where there are none."""


class Term(Protocol):
    """One loss term. It returns a loss for each position and never a mean over the batch.

    The training divides the sum by the positions of the global batch. An example then adds the same
    gradient whatever stands beside it, so any split into micro-batches and workers gives one result.
    """

    name: str
    """The type of its objective."""
    weight: float
    """What it is at the current step: `Schedules` moves it, and a temperature, between steps."""

    def per_position(self, evidence: Evidence) -> Tensor:
        """Loss of each position, fp32 [P]; 0 where the term has nothing to say."""
        ...


class CombinerRule(Protocol):
    """How several teachers become one target: a weight for each teacher and position."""

    def shares(self, slices_B: Sequence[str]) -> Tensor | None:
        """Weights [K, B] that are known before any teacher is asked; None when they depend on the replies."""
        ...

    def weights(self, signals: Sequence[Signal], slices_B: Sequence[str], examples_P: Tensor) -> Tensor:
        """Weights [K, P], non-negative, each column summing to 1. examples_P int64: the example in B."""
        ...


def heard(weights_KP: Tensor, signals: Sequence[Signal]) -> Tensor:
    """The weights with teachers that do not cover a position left out, scaled to sum to 1 again.

    A position that no teacher covers keeps weights of 0.
    """
    masks = [signal.known_P for signal in signals]
    if all(mask is None for mask in masks):
        return weights_KP
    rows = [w_P if m is None else w_P * m for w_P, m in zip(weights_KP, masks, strict=True)]
    kept_KP = torch.stack(rows)
    total_P = kept_KP.sum(0)
    return kept_KP / torch.where(total_P > 0, total_P, torch.ones_like(total_P))


def mixture(teachers_KPV: Tensor, weights_KP: Tensor, temperature: float = 1.0) -> Tensor:
    """The target distribution p_p = sum_k w_kp softmax(z_kp / T), fp32 [P, V]."""
    probabilities_KPV = torch.softmax(teachers_KPV.float() / temperature, dim=-1)
    return torch.einsum("kp,kpv->pv", weights_KP.float(), probabilities_KPV)


def mixture_of(dense: Sequence[Dense], weights_KP: Tensor, temperature: float) -> Tensor:
    """`mixture` of signals; over a vocabulary one teacher after another, so that K copies need not fit."""
    if dense[0].logits_PV.shape[-1] <= STACKED:
        return mixture(torch.stack([signal.logits_PV for signal in dense]), weights_KP, temperature)
    target_PV = torch.zeros_like(dense[0].logits_PV, dtype=torch.float32)
    for signal, weight_P in zip(dense, weights_KP.float(), strict=True):
        own_PV = torch.softmax(signal.logits_PV.float() / temperature, dim=-1)
        target_PV.addcmul_(own_PV, weight_P[:, None])
    return target_PV
