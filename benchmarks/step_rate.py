"""Which share of its step rate a student keeps when its signals come from K teachers.

    python -m benchmarks.step_rate [--steps 60] [--rounds 3]

Teachers have capacity of their own: actors that answer after a fixed time with packets of real size, and need
no core. The student is real, trained by the real loop under DeepSpeed; without teachers it learns the same
batches from labels. Two students: a classifier (MiniLM, 3 of 6 layers, dense logits), and a causal-lm (2
layers, hidden 256, vocabulary 8,192) that hears 12 draws a token, shared by the teachers. Signals go
through an Arrow store that begins empty.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.distributed as dist

from actors.channel import TeacherChannel
from actors.engine import Engine, lone_group
from actors.losses import asker
from actors.members import FixedMembers
from actors.replica import RayReplica
from actors.session import session
from actors.stream import SignalStream
from actors.trainer import Trainer
from actors.training import Training, TrainState
from actors.world import Solo
from benchmarks.scripted import PacedTeacher
from tutelage.cli.quiet import quiet_libraries
from tutelage.cli.surroundings import machine
from tutelage.config import JobConfig
from tutelage.config.models import FullFinetune, PartialFinetune
from tutelage.config.objectives import KL, CrossEntropy, Uniform
from tutelage.config.runtime import RayConfig, StreamConfig
from tutelage.config.train import TrainConfig
from tutelage.data.catalog import resolve_model
from tutelage.data.examples import Examples
from tutelage.data.rows import read_rows
from tutelage.data.tokens import tokenise
from tutelage.files import home
from tutelage.models.load import load_tokenizer, prepare_for_training
from tutelage.signals.spec import PayloadSpec
from tutelage.signals.store import ArrowStore
from tutelage.tasks import build_task, signal_width
from tutelage.testing import tiny_model

TEACHERS = (1, 3, 5)
WARM_STEPS = 10
LATENCY_S = 0.1


def classifier(folder: Path, steps: int) -> Training:
    """MiniLM's layers 0, 2 and 5 on reviews, batches of 32."""
    sources: dict[str, Any] = {
        name: {"type": "catalog", "dataset": f"reviews/{name}"} for name in ("movies", "amazon")
    }
    task = {"labels": ["negative", "positive"]}
    base = resolve_model("catalog:minilm", home())
    train = TrainConfig(batch_size=32, max_steps=steps, epochs=9, lr=1e-4, dropout=0, checkpoint_every=10**6)
    return _training(folder, task, sources, base, PartialFinetune(type="partial"), [0, 2, 5], train)


def causal_lm(folder: Path, steps: int) -> Training:
    """A llama of 2 layers, hidden 256, 8,192 tokens, on random words; batches of 8 x 128 tokens."""
    rng = random.Random(0)
    words = [f"w{n}" for n in range(8188)]
    base = tiny_model(
        folder / "lm", "causal-lm", vocabulary=words, hidden=256, layers=2, positions=128, seed=1
    )
    rows = [{"text": " ".join(rng.choices(words, k=140))} for _ in range(8 * steps + 200)]
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    train = TrainConfig(batch_size=8, max_steps=steps, lr=1e-4, dropout=0, checkpoint_every=10**6)
    source = {"s": {"path": str(path), "split": "train"}}
    return _training(folder, {"type": "causal-lm"}, source, base, FullFinetune(), None, train)


def _training(
    folder: Path, task: Any, sources: Any, base: str, method: Any, layers: Any, train: TrainConfig
) -> Training:
    job = JobConfig.model_validate(
        {
            "name": "step-rate",
            "task": task,
            "data": {"sources": sources, "max_tokens": 48 if "labels" in task else 128},
            "student": {"model": base},
            "objectives": [{"type": "cross-entropy"}],
        }
    )
    rows = read_rows(job, home() if "labels" in task else folder)
    return Training(
        run="step-rate",
        base=base,
        tokenizer=base,
        task=job.task,
        layers=layers,
        method=method,
        train=train,
        objectives=[CrossEntropy(type="cross-entropy")],
        combiner=Uniform(),
        stream=StreamConfig(),
        examples=str(tokenise(rows, base, job.data.max_tokens, folder)),
        picks=None,
        slices=[],
        seed=1,
        storage="",
        output="",
    )


class Clock:
    """A keeper that remembers when each step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def progress(self, state: Any, total: int) -> None:
        """A step is done."""
        self.ends.append(time.perf_counter())

    def checkpoint(self, state: Any, best: Any) -> None:
        """Nothing is kept."""

    @property
    def step_s(self) -> float:
        """Mean time of a step, without the first ones."""
        return (self.ends[-1] - self.ends[WARM_STEPS]) / (len(self.ends) - 1 - WARM_STEPS)


def run(plan: Training, teachers: list[Any], folder: Path) -> tuple[float, float]:
    """Seconds a step, and the share of them spent waiting for teachers."""
    examples = Examples.open(plan.examples)
    if teachers:
        width = signal_width(plan.task, examples.vocabulary)
        dense, drawn = PayloadSpec("dense", width), PayloadSpec("sampled", width, entries=12, mixture="m")
        plan = replace(
            plan,
            payloads={
                f"t{k}": replace(drawn, member=k) if width > 1000 else dense for k in range(len(teachers))
            },
            objectives=[KL(type="kl", temperature=1)],
        )
    task = build_task(plan.task)
    torch.manual_seed(1)
    model = prepare_for_training(task.load(plan.base, dropout=0.0), plan.method, plan.layers)
    channels = [
        TeacherChannel(name, FixedMembers([RayReplica(f"{name}-0", handle)]), spec, plan.stream)
        for (name, spec), handle in zip(plan.payloads.items(), teachers, strict=True)
    ]
    stores: Any = {name: ArrowStore(folder / name) for name in plan.payloads}
    stream = SignalStream(channels, stores, plan.stream, asker(plan, examples))
    clock = Clock()
    pad_id = load_tokenizer(plan.tokenizer).pad_token_id or 0
    engine = Engine(model, plan.train, "fp32", 1)
    state = TrainState()
    Trainer(plan, engine, examples, stream, Solo(), clock, pad_id).run(state)
    return clock.step_s, stream.waited_s / state.seconds


def main() -> None:
    """Print the medians over rounds, in which every number of teachers has its turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    quiet_libraries()
    torch.set_num_threads(2)
    where, load = machine(), os.getloadavg()[0]
    print(f"{where.cpu}, {where.cores} cores, {where.memory_gb} GiB, load {load:.1f}")
    print(
        f"{asked.rounds} rounds of {asked.steps} steps, the first {WARM_STEPS} not counted; "
        f"teachers answer after {LATENCY_S} s"
    )
    print(f"{'student':14s}{'teachers':>9s}{'s/step':>9s}{'rate kept':>11s}{'waiting':>9s}")
    with tempfile.TemporaryDirectory() as name, session(RayConfig(), Path(name)):
        import ray

        folder = Path(name)
        lone_group()
        paced = ray.remote(PacedTeacher).options(num_cpus=0)
        handles = [paced.remote(f"t{k}", LATENCY_S) for k in range(max(TEACHERS))]
        for student, make in (("classifier", classifier), ("causal-lm", causal_lm)):
            plan = make(folder, asked.steps)
            found: dict[int, list[tuple[float, float]]] = {k: [] for k in (0, *TEACHERS)}
            for n in range(asked.rounds):
                for k, results in found.items():
                    results.append(run(plan, handles[:k], folder / f"{student}-{k}-{n}"))
            alone = median(step_s for step_s, _ in found[0])
            for k, results in found.items():
                step_s, waiting = (median(column) for column in zip(*results, strict=True))
                each = ", ".join(f"{one:.3f}" for one, _ in results)
                print(
                    f"{student:14s}{k:9d}{step_s:9.4f}{alone / step_s:11.3f}{waiting:9.1%}  ({each})",
                    flush=True,
                )
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
