"""The methods that are compared. What they use of `tutelage.continual` is used here and nowhere else.

A method sees the batches of one context after another: `start`, then `loss` for each batch, then `finish`.

none       plain training on what comes
ewc        Kirkpatrick et al. 2017 (arXiv 1612.00796), a term for each earlier context, kept as one
online-ewc Schwarz et al. 2018 (arXiv 1805.06370)
si         Zenke et al. 2017 (arXiv 1703.04200)
lwf        Li & Hoiem 2016 (arXiv 1606.09282): the network of the context before teaches, on the new images
er         Chaudhry et al. 2019 (arXiv 1902.10486): a batch of kept images beside each new one
der++      Buzzega et al. 2020 (arXiv 2004.07211): kept logits as well
joint      all contexts so far mixed, as many images a step: what could be reached
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.continual.protocols import Batch, Protocol
from benchmarks.continual.reference import ReferencePenalty, fisher_one_by_one
from tutelage.continual.anchors import Anchors
from tutelage.continual.fisher import Scored, fisher
from tutelage.continual.penalty import PathIntegral, Quadratic, StepRule, attach

FISHER_BATCH = 128
Rule = Literal["explicit", "proximal"]


@dataclass(frozen=True)
class Settings:
    """Constants of the methods."""

    lam: float
    """lambda of the EWC family, on the Fisher information as it is."""
    rule: Rule = "explicit"
    gamma: float = 1.0
    """What online EWC leaves of earlier importance."""
    si: float = 1.0
    """c of synaptic intelligence."""
    xi: float = 0.1
    fisher_examples: int = 1_000
    """Images of a context that its importance is measured on; 0: all."""
    memory: int = 500
    """Images that replay keeps, of all contexts together."""
    temperature: float = 2.0
    alpha: float = 0.5
    """der++: of the kept logits."""
    beta: float = 0.5
    """der++: of the kept labels."""


class Method:
    """Plain training, and what the others change of it."""

    def __init__(self, protocol: Protocol, model: nn.Module, settings: Settings, seed: int) -> None:
        self.protocol, self.model, self.settings, self.seed = protocol, model, settings, seed

    @property
    def parameters(self) -> dict[str, Tensor]:
        """All of the model's, by name."""
        return dict(self.model.named_parameters())

    def start(self, context: int, optimizer: torch.optim.Optimizer) -> None:
        """Before the first batch of a context, with an optimiser made for it."""

    def loss(self, batch: Batch, context: int) -> Tensor:
        """Of one batch."""
        return self.right(self.model(batch.pixels_BD), batch, context)

    def finish(self, context: int) -> None:
        """After the last batch of a context."""

    def right(self, logits_BC: Tensor, batch: Batch, latest: int) -> Tensor:
        """Cross-entropy among the outputs that compete."""
        return F.cross_entropy(self.protocol.masked(logits_BC, batch.contexts_B, latest), batch.targets_B)

    def sample(self, context: int) -> Tensor:
        """Rows of a context that importance is measured on: the same ones for every method."""
        rows_N = self.protocol.rows(context)
        generator = torch.Generator().manual_seed(1_000 * self.seed + 500 + context)
        order_N = torch.randperm(len(rows_N), generator=generator).to(rows_N.device)
        return rows_N[order_N[: self.settings.fisher_examples or len(rows_N)]]


class Anchored(Method):
    """Those that hold weights where they were."""

    anchors = Anchors.empty()

    def curvature(self) -> dict[str, Tensor]:
        """Of the penalty, by name; nothing before the first context has ended."""
        return self.anchors.strength(self.settings.lam, normalised=False)

    def start(self, context: int, optimizer: torch.optim.Optimizer) -> None:
        """Put the penalty around the optimiser's step."""
        attach(optimizer, self.rules())

    def rules(self) -> list[StepRule]:
        """In the order of the model's parameters."""
        if not self.anchors.precision:
            return []
        strength, center = self.curvature(), self.anchors.center
        names = list(self.parameters)
        proximal = self.settings.rule == "proximal"
        return [Quadratic([strength[n] for n in names], [center[n] for n in names], proximal=proximal)]

    def measured(self, context: int) -> dict[str, Tensor]:
        """Exact Fisher information on images of a context."""
        parts = torch.split(self.sample(context), FISHER_BATCH)
        batches = (self.protocol.of_context(context, rows_B) for rows_B in parts)
        span = self.protocol.compete(context, context)
        return our_fisher(self.model, ((len(one.rows_B), one.pixels_BD) for one in batches), span)


class EWC(Anchored):
    """One quadratic term for each context."""

    def finish(self, context: int) -> None:
        """Add the context's term."""
        self.anchors = self.anchors.add(self.measured(context), self.parameters)


class OnlineEWC(Anchored):
    """One term around the latest weights."""

    def finish(self, context: int) -> None:
        """Let go of some of the old, and add the new."""
        self.anchors = self.anchors.decay_to(self.measured(context), self.parameters, self.settings.gamma)


class SI(Anchored):
    """c sum Omega (theta - theta*)^2, without the half: its curvature is 2 c Omega."""

    def curvature(self) -> dict[str, Tensor]:
        """Importance adds up over contexts."""
        return self.anchors.strength(2 * self.settings.si, normalised=False)

    def start(self, context: int, optimizer: torch.optim.Optimizer) -> None:
        """Follow the path first, then hold."""
        self._path = PathIntegral(list(self.parameters.values()))
        attach(optimizer, [self._path, *self.rules()])

    def finish(self, context: int) -> None:
        """Add what the path gave."""
        names, weights = list(self.parameters), list(self.parameters.values())
        importance = dict(zip(names, self._path.importance(weights, self.settings.xi), strict=True))
        self.anchors = self.anchors.decay_to(importance, self.parameters, 1.0)


class Reference(Method):
    """EWC of `reference.py`."""

    def __init__(self, protocol: Protocol, model: nn.Module, settings: Settings, seed: int) -> None:
        super().__init__(protocol, model, settings, seed)
        self._penalty = ReferencePenalty(settings.lam)

    def loss(self, batch: Batch, context: int) -> Tensor:
        """With the penalty as a term of the loss."""
        return super().loss(batch, context) + self._penalty.loss(self.parameters)

    def finish(self, context: int) -> None:
        """Measure one image at a time."""
        images_ND = self.protocol.of_context(context, self.sample(context)).pixels_BD
        span = self.protocol.compete(context, context)
        importance = fisher_one_by_one(
            self.parameters, images_ND, lambda one_D: self.model(one_D[None])[0, span]
        )
        self._penalty.add(importance, self.parameters)


class LwF(Method):
    """The t-th context counts 1 / t, the teacher the rest, as van de Ven & Tolias weigh them (1904.07734)."""

    _teacher: nn.Module | None = None

    def loss(self, batch: Batch, context: int) -> Tensor:
        """KL from the teacher over the outputs it knew: each old head where the context is given."""
        logits_BC = self.model(batch.pixels_BD)
        loss = self.right(logits_BC, batch, context)
        if self._teacher is None:
            return loss
        with torch.no_grad():
            taught_BC = self._teacher(batch.pixels_BD)
        heads = range(context) if self.protocol.scenario == "task" else range(context - 1, context)
        spans = [self.protocol.compete(head, context - 1) for head in heads]
        distilled = sum((self._kl(logits_BC[:, one], taught_BC[:, one]) for one in spans), torch.zeros(()))
        share = 1 / (context + 1)
        return share * loss + (1 - share) * distilled / len(spans)

    def _kl(self, logits_BC: Tensor, taught_BC: Tensor) -> Tensor:
        t = self.settings.temperature
        log_q_BC, log_p_BC = torch.log_softmax(logits_BC / t, -1), torch.log_softmax(taught_BC / t, -1)
        return t**2 * F.kl_div(log_q_BC, log_p_BC, log_target=True, reduction="batchmean")

    def finish(self, context: int) -> None:
        """The network of now teaches the next context."""
        self._teacher = copy.deepcopy(self.model).eval().requires_grad_(False)


class ER(Method):
    """Half of the loss is of kept images."""

    def __init__(self, protocol: Protocol, model: nn.Module, settings: Settings, seed: int) -> None:
        super().__init__(protocol, model, settings, seed)
        self._kept = Reservoir(settings.memory, len(protocol.images.train.labels_N), seed)

    def loss(self, batch: Batch, context: int) -> Tensor:
        """The mean of both batches."""
        old = self.replayed(len(batch.rows_B))
        self._kept.offer(batch, torch.zeros(len(batch.rows_B), 0))
        loss = super().loss(batch, context)
        return loss if old is None else (loss + super().loss(old[0], context)) / 2

    def replayed(self, size: int) -> tuple[Batch, Tensor] | None:
        """So many kept images with their logits; none at the very first step."""
        drawn = self._kept.draw(size)
        return drawn and (self.protocol.batch(drawn[0], drawn[1]), drawn[2])


class DERpp(ER):
    """alpha of the squared distance to kept logits, beta of kept labels."""

    def loss(self, batch: Batch, context: int) -> Tensor:
        """Two draws from what is kept, one for each term."""
        dark, old = (self.replayed(len(batch.rows_B)) for _ in range(2))
        logits_BC = self.model(batch.pixels_BD)
        self._kept.offer(batch, logits_BC.detach())
        loss = self.right(logits_BC, batch, context)
        if dark is not None and old is not None:
            loss = loss + self.settings.alpha * F.mse_loss(self.model(dark[0].pixels_BD), dark[1])
            loss = loss + self.settings.beta * self.right(self.model(old[0].pixels_BD), old[0], context)
        return loss


class Joint(Method):
    """The batch is drawn anew from all contexts so far."""

    def start(self, context: int, optimizer: torch.optim.Optimizer) -> None:
        """Which images there are by now."""
        rows = [self.protocol.rows(one) for one in range(context + 1)]
        self._rows_N = torch.cat(rows)
        self._contexts_N = torch.cat([torch.full_like(one, number) for number, one in enumerate(rows)])
        self._generator = torch.Generator().manual_seed(1_000 * self.seed + 700 + context)

    def loss(self, batch: Batch, context: int) -> Tensor:
        """As many images as the batch has."""
        drawn_B = torch.randint(len(self._rows_N), (len(batch.rows_B),), generator=self._generator)
        drawn_B = drawn_B.to(self._rows_N.device)
        return super().loss(self.protocol.batch(self._contexts_N[drawn_B], self._rows_N[drawn_B]), context)


class Reservoir:
    """A uniform sample of all images offered: those with the largest of one random key an image."""

    def __init__(self, size: int, rows: int, seed: int) -> None:
        self._size, self._rows, self._seed = size, rows, seed
        self._generator = torch.Generator().manual_seed(seed)
        self._keys_of: dict[int, Tensor] = {}
        self._kept: tuple[Tensor, ...] | None = None
        """Keys, contexts, rows, logits, the largest key first."""

    def offer(self, batch: Batch, logits_BC: Tensor) -> None:
        """An image that was kept before stays as it was; all of a batch belong to one context."""
        context = int(batch.contexts_B[0])
        if context not in self._keys_of:
            own = torch.Generator().manual_seed(1_000 * self._seed + 900 + context)
            self._keys_of[context] = torch.rand(self._rows, generator=own, dtype=torch.float64).to(
                batch.rows_B.device
            )
        keys_B = self._keys_of[context][batch.rows_B]
        new: tuple[Tensor, ...] = (keys_B, batch.contexts_B, batch.rows_B, logits_BC.to(keys_B.device))
        if self._kept is not None:
            # A key belongs to one image of one context.
            fresh_B = ~torch.isin(keys_B, self._kept[0])
            if len(self._kept[0]) == self._size:
                fresh_B &= keys_B > self._kept[0][-1]
            new = tuple(torch.cat([old, one[fresh_B]]) for old, one in zip(self._kept, new, strict=True))
        _, best_M = new[0].topk(min(self._size, len(new[0])))
        self._kept = tuple(one[best_M] for one in new)

    def draw(self, size: int) -> tuple[Tensor, Tensor, Tensor] | None:
        """Contexts, rows and logits of some kept images, any of them more than once."""
        if self._kept is None:
            return None
        _, contexts_M, rows_M, logits_MC = self._kept
        drawn_B = torch.randint(len(rows_M), (size,), generator=self._generator).to(rows_M.device)
        return contexts_M[drawn_B], rows_M[drawn_B], logits_MC[drawn_B]


def our_fisher(
    model: nn.Module,
    batches: Iterable[tuple[int, Any]],
    span: slice = slice(None),
    inputs: Literal["tensor", "mapping"] = "tensor",
) -> dict[str, Tensor]:
    """Exact Fisher information over the outputs of a span; a mapping is given by name and has `.logits`."""

    def score(batch: Any) -> Scored:
        return Scored(model(batch)[:, span] if inputs == "tensor" else model(**batch).logits[:, span])

    return fisher(model, batches, score, mode="exact").mean()


METHODS: Mapping[str, type[Method]] = {
    "none": Method,
    "ewc": EWC,
    "online-ewc": OnlineEWC,
    "si": SI,
    "lwf": LwF,
    "er": ER,
    "der++": DERpp,
    "joint": Joint,
    "reference-ewc": Reference,
}
