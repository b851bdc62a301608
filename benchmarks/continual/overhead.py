"""What the penalty costs: seconds of a training step of the text student with and without it.

    python -m benchmarks.continual overhead [--steps 60]

The student of `text`, one copy for each way with an AdamW of its own. In each round all ways take one step on
the same batch, in an order that turns; the percent are the median over rounds of the ratio to the plain step
of the same round, so that what else the machine does falls on all alike.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from statistics import median
from typing import Any

import torch
from torch.nn import functional as F

from benchmarks.continual.table import markdown
from benchmarks.continual.text_data import SENTIMENTS, Corpus, encode, load_domains
from benchmarks.continual.text_learning import student, trained_parameters
from benchmarks.continual.where import where
from tutelage.continual.penalty import Quadratic, attach
from tutelage.data.catalog import fetch_model
from tutelage.files import home
from tutelage.models.load import load_tokenizer

WAYS = ("plain", "explicit", "proximal")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Those of `overhead`."""
    parser.add_argument("--steps", type=int, default=60, help="rounds that count")
    parser.add_argument("--warmup", type=int, default=6, help="rounds before them")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--max-tokens", type=int, default=48)
    parser.add_argument("--threads", type=int, help="of torch")
    parser.add_argument("--quick", action="store_true", help="24 rounds")
    parser.add_argument("--json", action="store_true")


class Stepper:
    """One copy of the student and its optimiser."""

    def __init__(self, model: Any, way: str) -> None:
        self._model = copy.deepcopy(model).train()
        weights = trained_parameters(self._model)
        self._optimizer = torch.optim.AdamW(weights.values(), lr=1e-5)
        if way != "plain":
            strength = [torch.rand_like(one) for one in weights.values()]
            center = [one.detach().clone() for one in weights.values()]
            attach(self._optimizer, [Quadratic(strength, center, proximal=way == "proximal")])

    def step(self, corpus: Corpus, rows: list[int]) -> float:
        """Seconds of forward pass, backward pass and optimiser."""
        inputs, labels_B = corpus.inputs(rows), corpus.labels_N[rows]
        begin = time.perf_counter()
        self._optimizer.zero_grad()
        loss = F.cross_entropy(self._model(**inputs).logits, labels_B)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        return time.perf_counter() - begin


def measure(corpus: Corpus, model: Any, batch: int, warmup: int, steps: int) -> dict[str, list[float]]:
    """Seconds of each round by way."""
    steppers = {way: Stepper(model, way) for way in WAYS}
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in range(warmup + steps):
        rows = [(number * batch + at) % len(corpus.texts) for at in range(batch)]
        first = number % len(WAYS)
        for way in WAYS[first:] + WAYS[:first]:
            took = steppers[way].step(corpus, rows)
            if number >= warmup:
                found[way].append(took)
    return found


def run(asked: argparse.Namespace) -> None:
    """Print the machine and the table."""
    if asked.threads:
        torch.set_num_threads(asked.threads)
    steps = min(asked.steps, 24) if asked.quick else asked.steps
    folder = str(fetch_model("minilm", home()))
    corpus = encode([load_domains(home())["movies"]], SENTIMENTS, load_tokenizer(folder), asked.max_tokens)
    model = student(folder, SENTIMENTS, seed=1)
    surroundings = where("cpu")
    found = measure(corpus, model, asked.batch, asked.warmup, steps)
    results: list[dict[str, Any]] = [
        {
            "way": way,
            "seconds": median(found[way]),
            "percent": 100
            * median(one / plain - 1 for one, plain in zip(found[way], found["plain"], strict=True)),
        }
        for way in WAYS
    ]
    if asked.json:
        print(json.dumps({"machine": surroundings, "steps": steps, "results": results}, indent=1))
        return
    weights = sum(one.numel() for one in trained_parameters(model).values())
    print(f"{surroundings}\n{steps} rounds, batches of {asked.batch}, {weights / 1e6:.1f} million weights\n")
    rows = [
        [one["way"], f"{1e3 * float(one['seconds']):.1f}", f"{float(one['percent']):+.2f}"] for one in results
    ]
    print(markdown(["step", "ms", "percent"], rows))
