"""A small encoder that learns one context of texts after another, as `tutelage update` would.

What holds the old is put together from the parts of `tutelage`: each method names those that it uses, and
everything else is the same for all. The first training of a seed is the same for all methods, since there is
nothing to hold yet: it is done once. Importance, stored logits and kept texts are made at the end of a
training.

A step of a method with replay sees as many kept texts beside its batch of new ones; the loss is the mean over
both. Shapes: B texts of a batch, C classes, W classes that were known before.
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.continual.table import Matrix, Result, percent
from benchmarks.continual.text_data import Context, Stream
from benchmarks.continual.text_methods import RECIPES, Recipe, Settings
from tutelage.config.models import PartialFinetune
from tutelage.config.objectives import CrossEntropy
from tutelage.config.update import Distil
from tutelage.continual.anchors import Anchors, grown
from tutelage.continual.fisher import Scored, fisher
from tutelage.continual.heads import grow, nearest_mean
from tutelage.continual.penalty import Quadratic, attach
from tutelage.continual.replay import Buffer, Item
from tutelage.models.load import load_classifier, prepare_for_training
from tutelage.objectives.base import Dense, Evidence, Term
from tutelage.objectives.cross_entropy import CrossEntropyTerm
from tutelage.objectives.retain import RetainTerm, StoredLogitsTerm

LAYERS = [0, 2, 5]
FISHER_BATCH = TEST_BATCH = 32
CLIP = 1.0


@dataclass(frozen=True)
class Trained:
    """A model after the first context, and what it took."""

    model: Any
    seconds: float


class Learner:
    """One model on its way through a stream."""

    def __init__(self, stream: Stream, recipe: Recipe, settings: Settings, seed: int, model: Any) -> None:
        self.stream, self.recipe, self.settings, self.seed, self.model = stream, recipe, settings, seed, model
        self.anchors = Anchors.empty()
        self.buffer = Buffer(1_000 * settings.kilobytes, settings.buffer, seed)
        self._random = np.random.default_rng([seed, 1])
        self._champion: Any = None

    def learn(self, context: Context) -> None:
        """Train on a context, and remember it."""
        self.train(context)
        self.remember(context)

    def train(self, context: Context) -> None:
        """Grow the head to the classes of the context, then fit all that counts."""
        grow(self.model, self.stream.classes[: context.classes], self.seed)
        settings, corpus = self.settings, self.stream.corpus
        batches = list(context.batches(corpus, settings.batch, settings.epochs, self.seed))
        lr = settings.lr if context.name in (self.stream.contexts[0].name, "joint") else settings.later_lr
        named = trained_parameters(self.model)
        optimizer = torch.optim.AdamW(named.values(), lr=lr, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(shape, total=len(batches)))
        self._hold(optimizer, named)
        self.model.train()
        for new in batches:
            optimizer.zero_grad()
            self.loss(new).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(named.values(), CLIP)
            optimizer.step()
            schedule.step()
        self.model.eval()

    def loss(self, new: list[int]) -> Tensor:
        """Of one batch and of the kept texts beside it."""
        kept = self.buffer.sample(len(new), self._random) if self.recipe.replay else []
        rows = new + [int(item.columns["row"]) for item in kept]
        inputs = self.stream.corpus.inputs(rows)
        student_BC = self.model(**inputs).logits
        champion = None
        if self._champion is not None:
            with torch.no_grad():
                champion = Dense(self._champion(**inputs).logits)
        stored_BC = None
        if self.recipe.logits and kept:
            stored_BC = torch.full(student_BC.shape, torch.nan)
            for at, item in enumerate(kept, len(new)):
                stored_BC[at, : len(item.logits or ())] = torch.tensor(item.logits or ())
        labels_B = self.stream.corpus.labels_N[rows]
        evidence = Evidence(student_BC, labels_B, champion=champion, stored_PV=stored_BC)
        parts = [term.weight * term.per_position(evidence).mean() for term in self._terms()]
        return torch.stack(parts).sum()

    def _terms(self) -> list[Term]:
        terms: list[Term] = [CrossEntropyTerm(CrossEntropy(type="cross-entropy"))]
        settings = self.settings
        if self._champion is not None:
            terms.append(RetainTerm(Distil(weight=settings.distil, temperature=settings.temperature)))
        if self.recipe.logits:
            terms.append(StoredLogitsTerm(settings.logits))
        return terms

    def _hold(self, optimizer: torch.optim.Optimizer, named: dict[str, Tensor]) -> None:
        if not self.anchors.precision:
            return
        strength = self.anchors.strength(self.settings.lam)
        rows = {name: (strength[name], self.anchors.center[name], one.shape) for name, one in named.items()}
        # Rows that the head has gained are not held.
        held = [[grown(value, shape) for value in (k, center)] for k, center, shape in rows.values()]
        ks, centers = zip(*held, strict=True)
        attach(optimizer, [Quadratic(ks, centers, proximal=self.settings.rule == "proximal")])

    def remember(self, context: Context) -> None:
        """What the method needs of this context from now on."""
        if self.recipe.hold:
            self._measure(context)
        if self.recipe.replay:
            self.buffer.add(self._items(context))
        if self.recipe.distil:
            self._champion = copy.deepcopy(self.model).eval().requires_grad_(False)

    def _measure(self, context: Context) -> None:
        generator = np.random.default_rng([self.seed, 2])
        rows = generator.permutation(context.train)[: self.settings.fisher_examples].tolist()
        corpus = self.stream.corpus
        batches = ((len(some), corpus.inputs(some)) for some in corpus.by_length(rows, FISHER_BATCH))
        found = fisher(
            self.model,
            batches,
            lambda inputs: Scored(self.model(**inputs).logits),
            mode=self.settings.fisher_mode,
            seed=self.seed,
        ).mean()
        weights = trained_parameters(self.model)
        if self.recipe.hold == "ewc":
            self.anchors = self.anchors.add(found, weights)
        else:
            self.anchors = self.anchors.decay_to(found, weights, self.settings.gamma)

    def _items(self, context: Context) -> Iterator[Item]:
        corpus = self.stream.corpus
        scored: Iterable[tuple[int, list[float] | None]] = ((row, None) for row in context.train)
        if self.recipe.logits:
            scored = answers(self.model, self.stream, context.train)
        for row, logits in scored:
            label = self.stream.classes[int(corpus.labels_N[row])]
            digest = row.to_bytes(16, "little")
            columns = {"text": corpus.texts[row], "row": row}
            yield Item(digest, context.name, columns, label, logits=logits, id=str(row))

    def row(self, contexts: Sequence[Context], context: Context) -> list[float]:
        """Accuracy on the test texts of each; `context` is the one just learnt."""
        judged = self._with_means(context) if self.recipe.nearest_mean else self.model
        return [accuracy(judged, self.stream, one.test) for one in contexts]

    def _with_means(self, context: Context) -> Any:
        corpus, judged = self.stream.corpus, copy.deepcopy(self.model)
        rows = sorted({*context.train, *(int(item.columns["row"]) for item in self.buffer)})

        def batches() -> Iterator[tuple[Callable[[], Any], Tensor]]:
            for some in corpus.by_length(rows, TEST_BATCH):
                yield partial(judged, **corpus.inputs(some)), corpus.labels_N[some]

        nearest_mean(judged, batches())
        return judged


def shape(step: int, total: int) -> float:
    """Of the learning rate: up within a tenth of the steps, then down to 0."""
    warm = max(1, total // 10)
    return (step + 1) / warm if step < warm else (total - step) / max(1, total - warm)


def student(folder: str, classes: list[str], seed: int) -> Any:
    """Three layers of the encoder with a new head, embeddings frozen and no dropout."""
    torch.manual_seed(seed)
    model = load_classifier(folder, classes, dropout=0.0)
    return prepare_for_training(model, PartialFinetune(type="partial"), LAYERS)


def trained_parameters(model: Any) -> dict[str, Tensor]:
    """Those that are not frozen, by name."""
    return {name: one for name, one in model.named_parameters() if one.requires_grad}


@torch.no_grad()
def answers(model: Any, stream: Stream, rows: Sequence[int]) -> Iterator[tuple[int, list[float]]]:
    """Each row with the model's logits [C]."""
    for some in stream.corpus.by_length(rows, TEST_BATCH):
        yield from zip(some, model(**stream.corpus.inputs(some)).logits.tolist(), strict=True)


def accuracy(model: Any, stream: Stream, rows: Sequence[int]) -> float:
    """Share of the rows whose class has the largest logit."""
    labels: list[int] = stream.corpus.labels_N.tolist()
    right: list[bool] = [
        int(np.argmax(logits)) == labels[row] for row, logits in answers(model, stream, rows)
    ]
    return sum(right) / len(rows)


Begun = dict[tuple[str, int], Trained]
"""The first training by name of its context and seed."""


def learn(
    stream: Stream, recipe: Recipe, settings: Settings, seed: int, begun: Begun
) -> tuple[Matrix, float]:
    """The lower triangle of R, and the seconds of all trainings, what they remember and the judging."""
    begin, first = time.perf_counter(), stream.contexts[0]
    if recipe.joint:
        whole = stream.together
        model = student(settings.model, stream.classes[: first.classes], seed)
        learner = Learner(stream, recipe, settings, seed, model)
        learner.train(whole)
        final = learner.row(stream.contexts, whole)
        # There is no order: each row is the last one, as far as it goes.
        return [final[: i + 1] for i in range(len(final))], time.perf_counter() - begin
    key = first.name, seed
    if key not in begun:
        model = student(settings.model, stream.classes[: first.classes], seed)
        Learner(stream, Recipe(), settings, seed, model).train(first)
        begun[key] = Trained(model, time.perf_counter() - begin)
    begin = time.perf_counter()
    learner = Learner(stream, recipe, settings, seed, copy.deepcopy(begun[key].model))
    learner.remember(first)
    matrix = [learner.row([first], first)]
    for number, context in enumerate(stream.contexts[1:], 2):
        learner.learn(context)
        matrix.append(learner.row(stream.contexts[:number], context))
    return matrix, begun[key].seconds + time.perf_counter() - begin


def result(
    streams: Mapping[tuple[int, int], Stream], method: str, settings: Settings, begun: Begun, note: str = ""
) -> Result:
    """One method on each (order, seed); a line for each on the error stream."""
    matrices, seconds = [], []
    for (order, seed), stream in streams.items():
        matrix, took = learn(stream, RECIPES[method], settings, seed, begun)
        matrices.append(matrix)
        seconds.append(took)
        final = percent(sum(matrix[-1]) / len(matrix[-1]), None)
        where = f"{stream.name} {method}{note} order {order} seed {seed}"
        print(f"{where}: {final} in {took:.1f} s", file=sys.stderr, flush=True)
    one = next(iter(streams.values()))
    scenario = "class" if one.name == "reuters" else "domain"
    return Result(one.name, scenario, f"{method}{note}", [seed for _, seed in streams], matrices, seconds)
