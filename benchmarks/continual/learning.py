"""One network that learns one context after another, judged on all of them after each."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from benchmarks.continual.methods import METHODS, Settings
from benchmarks.continual.protocols import Protocol
from benchmarks.continual.table import Matrix, Result, percent

TEST_BATCH = 1_000


@dataclass(frozen=True)
class Course:
    """How a context is learnt."""

    iterations: int
    batch: int
    lr: float
    hidden: tuple[int, ...]
    optimizer: str = "adam"

    def start(self, model: nn.Module) -> torch.optim.Optimizer:
        """A new optimiser, which every context gets."""
        kind = torch.optim.SGD if self.optimizer == "sgd" else torch.optim.Adam
        return kind(model.parameters(), lr=self.lr)


def mlp(inputs: int, hidden: tuple[int, ...], outputs: int) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    widths = [inputs, *hidden, outputs]
    layers: list[nn.Module] = []
    for given, out in pairwise(widths):
        layers += [nn.Linear(given, out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def learn(protocol: Protocol, course: Course, method_name: str, settings: Settings, seed: int) -> Matrix:
    """The lower triangle of R. Weights at the start and batches depend on the seed alone."""
    torch.manual_seed(seed)
    model = mlp(protocol.pixels, course.hidden, protocol.width).to(protocol.classes_TK.device)
    method = METHODS[method_name](protocol, model, settings, seed)
    matrix: Matrix = []
    for context in range(protocol.contexts):
        optimizer = course.start(model)
        method.start(context, optimizer)
        for batch in protocol.stream(context, course.batch, course.iterations, seed):
            optimizer.zero_grad()
            loss: Tensor = method.loss(batch, context)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        method.finish(context)
        matrix.append([accuracy(protocol, model, past, context) for past in range(context + 1)])
    return matrix


@torch.no_grad()
def accuracy(protocol: Protocol, model: nn.Module, context: int, latest: int) -> float:
    """On the test images of a context, when `latest` is the last one learnt."""
    rows_N, right = protocol.rows(context, test=True), 0
    for rows_B in torch.split(rows_N, TEST_BATCH):
        batch = protocol.of_context(context, rows_B, test=True)
        logits_BC = protocol.masked(model(batch.pixels_BD), batch.contexts_B, latest)
        right += int((logits_BC.argmax(-1) == batch.targets_B).sum())
    return right / len(rows_N)


def result(
    protocols: dict[int, Protocol], course: Course, method: str, settings: Settings, note: str = ""
) -> Result:
    """One method with each seed; a line for each on the error stream."""
    matrices, seconds = [], []
    for seed, protocol in protocols.items():
        begin = time.perf_counter()
        matrices.append(learn(protocol, course, method, settings, seed))
        seconds.append(time.perf_counter() - begin)
        final = percent(sum(matrices[-1][-1]) / len(matrices[-1]), None)
        where = f"{protocol.name} {protocol.scenario} {method}{note} seed {seed}"
        print(f"{where}: {final} in {seconds[-1]:.1f} s", file=sys.stderr, flush=True)
    one = next(iter(protocols.values()))
    return Result(one.name, one.scenario, method, list(protocols), matrices, seconds)
