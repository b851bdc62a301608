"""Scoring by several teachers of one process, with and without common layers run once.

    python -m benchmarks.shared_layers [--teachers 5] [--batches 20] [--rounds 3]

Copies of MiniLM whose layers above the lowest `frozen` are changed, each asked in a thread of its own, with
one torch thread each, as a host does. Both ways alternate; the answers are compared bit by bit.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from tutelage.cli.quiet import quiet_libraries
from tutelage.cli.surroundings import machine
from tutelage.data.catalog import resolve_model
from tutelage.files import home
from tutelage.models.layers import encoder_layers
from tutelage.models.load import load_classifier
from tutelage.models.shared_layers import SharedLayers

FROZEN = (0, 1, 3, 5, 6)
ROWS, TOKENS = 32, 24


def main() -> None:
    """Print batches a second of all teachers together, both ways, for each number of frozen layers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--teachers", type=int, default=5)
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    quiet_libraries()
    torch.set_num_threads(1)
    where = machine()
    print(f"{where.cpu}, {where.cores} cores, {where.memory_gb} GiB, load {os.getloadavg()[0]:.1f}")
    print(f"{asked.teachers} teachers, {asked.batches} batches of {ROWS} x {TOKENS} tokens")
    print(f"{'frozen':>6s}{'shared':>8s}{'alone, s':>10s}{'shared, s':>11s}{'ratio':>7s}{'ideal':>7s}")
    batches = [_batch(seed) for seed in range(asked.batches)]
    for frozen in FROZEN:
        alone = [_teacher(frozen, seed) for seed in range(asked.teachers)]
        together = [_teacher(frozen, seed) for seed in range(asked.teachers)]
        layers = SharedLayers()
        shared = [layers.add(model) for model in together][-1]
        times: list[tuple[float, float]] = []
        for _ in range(asked.rounds):
            (one, wanted), (two, found) = _score(alone, batches), _score(together, batches)
            assert torch.equal(wanted, found)
            times.append((one, two))
        before, after = (statistics.median(column) for column in zip(*times, strict=True))
        ideal = 6 * asked.teachers / (shared + (6 - shared) * asked.teachers)
        print(
            f"{frozen:6d}{shared:8d}{before:10.2f}{after:11.2f}{before / after:7.2f}{ideal:7.2f}", flush=True
        )


def _teacher(frozen: int, seed: int) -> Any:
    torch.manual_seed(seed)  # of the head
    model = load_classifier(resolve_model("catalog:minilm", home()), ["negative", "positive"])
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in encoder_layers(model)[2][frozen:]:
            for weights in layer.parameters():
                weights.add_(torch.randn(weights.shape, generator=rng), alpha=1e-3)
    return model


def _batch(seed: int) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    ids = torch.randint(1000, 20000, (ROWS, TOKENS), generator=rng)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _score(models: list[Any], batches: list[dict[str, Tensor]]) -> tuple[float, Tensor]:
    def answer(model: Any) -> Tensor:
        with torch.inference_mode():
            return torch.stack([model(**batch).logits for batch in batches])

    begin = time.perf_counter()
    with ThreadPoolExecutor(len(models)) as pool:
        found = torch.stack(list(pool.map(answer, models)))
    return time.perf_counter() - begin, found


if __name__ == "__main__":
    main()
