"""Split and permuted images as contexts that come one after another.

split: each context has some of the classes (Zenke et al. 2017, arXiv 1703.04200); permuted: each has all of
them, with the pixels in an order of its own (Goodfellow et al. 2013, arXiv 1312.6211), padded to 32 x 32.
Scenarios are those of van de Ven & Tolias (arXiv 1904.07734): `task`, the context is known and only its
own outputs compete; `domain`, all contexts share their outputs; `class`, all outputs met so far compete.

Shapes: B images of a batch, D pixels, C outputs, T contexts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.continual.images import SIDE, Images, Part, classes

Scenario = Literal["task", "domain", "class"]
PADDED = 32


@dataclass(frozen=True)
class Batch:
    """Some images, the context that each belongs to, and the output that is right for it."""

    pixels_BD: Tensor
    targets_B: Tensor
    contexts_B: Tensor
    rows_B: Tensor


@dataclass(frozen=True)
class Protocol:
    """A sequence of contexts over the same images."""

    name: str
    scenario: Scenario
    images: Images
    classes_TK: Tensor
    """Classes of each context; the k-th belongs to its k-th output."""
    orders_TD: Tensor | None = None
    """Order of the pixels in each context."""

    @property
    def contexts(self) -> int:
        """How many."""
        return len(self.classes_TK)

    @property
    def pixels(self) -> int:
        """Inputs of the network."""
        return self.images.train.pixels_ND.shape[1]

    @property
    def width(self) -> int:
        """Outputs of the network."""
        each = self.classes_TK.shape[1]
        return each if self.scenario == "domain" else each * self.contexts

    def own(self, context: int) -> slice:
        """The outputs of one context."""
        each = self.classes_TK.shape[1]
        first = 0 if self.scenario == "domain" else context * each
        return slice(first, first + each)

    def compete(self, context: int, latest: int) -> slice:
        """The outputs that compete for images of a context when `latest` is the last one met."""
        return slice(0, self.own(latest).stop) if self.scenario == "class" else self.own(context)

    def masked(self, logits_BC: Tensor, contexts_B: Tensor, latest: int) -> Tensor:
        """Logits of the outputs that compete, minus infinity for the others."""
        spans = [self.compete(context, latest) for context in range(self.contexts)]
        spans_T2 = torch.tensor([[one.start, one.stop] for one in spans], device=logits_BC.device)
        first_B, stop_B = spans_T2[contexts_B].unbind(-1)
        outputs_C = torch.arange(self.width, device=logits_BC.device)
        open_BC = (outputs_C >= first_B[:, None]) & (outputs_C < stop_B[:, None])
        return logits_BC.masked_fill(~open_BC, float("-inf"))

    def rows(self, context: int, *, test: bool = False) -> Tensor:
        """The images of a context, as rows of the part."""
        part = self.images.test if test else self.images.train
        return torch.isin(part.labels_N, self.classes_TK[context]).nonzero().flatten()

    def batch(self, contexts_B: Tensor, rows_B: Tensor, *, test: bool = False) -> Batch:
        """The images in these rows, each as its context shows it, with pixels from 0 to 1."""
        part = self.images.test if test else self.images.train
        pixels_BD = part.pixels_ND[rows_B]
        if self.orders_TD is not None:
            pixels_BD = pixels_BD.gather(1, self.orders_TD[contexts_B])
        hits_BK = self.classes_TK[contexts_B] == part.labels_N[rows_B][:, None]
        targets_B = hits_BK.int().argmax(-1)
        if self.scenario != "domain":
            targets_B = targets_B + contexts_B * self.classes_TK.shape[1]
        return Batch(pixels_BD.float() / 255, targets_B, contexts_B, rows_B)

    def of_context(self, context: int, rows_B: Tensor, *, test: bool = False) -> Batch:
        """The same where all rows belong to one context."""
        return self.batch(torch.full_like(rows_B, context), rows_B, test=test)

    def stream(self, context: int, size: int, iterations: int, seed: int) -> Iterator[Batch]:
        """Batches of a context, the same for the same seed: epochs in random order, whole batches."""
        rows_N = self.rows(context)
        generator = torch.Generator().manual_seed(1_000 * seed + context)
        size, left_M = min(size, len(rows_N)), rows_N[:0]
        for _ in range(iterations):
            if len(left_M) < size:
                left_M = rows_N[torch.randperm(len(rows_N), generator=generator).to(rows_N.device)]
            yield self.of_context(context, left_M[:size])
            left_M = left_M[size:]


def split(images: Images, scenario: Scenario, contexts: int = 5) -> Protocol:
    """The classes in their own order, as many in each context; classes that do not come out even are left."""
    labels_N = images.train.labels_N
    known = torch.tensor(classes(labels_N), device=labels_N.device)
    each = len(known) // contexts
    return Protocol("split", scenario, images, known[: each * contexts].reshape(contexts, each))


def permuted(images: Images, scenario: Scenario, contexts: int = 10, seed: int = 0) -> Protocol:
    """All classes in each context, padded, with a random order of the pixels; the first context's as well."""
    wide = Images(
        images.name, *(Part(_padded(part.pixels_ND), part.labels_N) for part in (images.train, images.test))
    )
    device = images.train.labels_N.device
    generator = torch.Generator().manual_seed(seed)
    pixels = wide.train.pixels_ND.shape[1]
    orders_TD = torch.stack([torch.randperm(pixels, generator=generator) for _ in range(contexts)])
    classes_TK = torch.tensor([classes(images.train.labels_N)] * contexts, device=device)
    return Protocol("permuted", scenario, wide, classes_TK, orders_TD.to(device))


def _padded(pixels_ND: Tensor) -> Tensor:
    edge = (PADDED - SIDE) // 2
    return F.pad(pixels_ND.reshape(-1, SIDE, SIDE), (edge, edge, edge, edge)).flatten(1)
