"""One rank of a gloo group that runs the DeepSpeed engine through all its settings and writes what it saw.

`python -m tests.ray.engine_matrix FOLDER RANK WORLD`: rank 0 writes FOLDER/world-WORLD.json. Each
training takes the same batches, so every trajectory can be compared with plain torch, which rank 0 runs
on the whole batch. Shapes: B batch, T tokens, C classes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from actors.engine import Engine, is_sharded, to_universal
from tests.unit.page_faults import page_faults
from tutelage.config.train import TrainConfig
from tutelage.models.layers import freeze
from tutelage.models.load import load_classifier

STEPS, BATCH, LR = 6, 8, 5e-3
HALF = STEPS // 2
REPEATS = 4
SOME = [(0, 2), (2, None), (3, 2)]
"""ZeRO stage and micro-batch size of the trainings with unusual settings."""

Batch = tuple[Tensor, Tensor, Tensor]


def section(**changes: Any) -> TrainConfig:
    """A training section for this group's size."""
    return TrainConfig(**({"batch_size": BATCH, "lr": LR, "workers": dist.get_world_size()} | changes))


def batches() -> list[Batch]:
    """The same STEPS batches on every rank."""
    generator = torch.Generator().manual_seed(7)
    made = []
    for _ in range(STEPS):
        ids_BT = torch.randint(4, 30, (BATCH, 8), generator=generator)
        made.append((ids_BT, torch.ones_like(ids_BT), (ids_BT.sum(-1) % 2)))
    return made


def classifier(folder: Path, *, frozen: bool = False) -> Any:
    """The model that every training starts from, without dropout."""
    model = load_classifier(folder / "model", dropout=0.0)
    if frozen:
        freeze(model, embeddings=True, layers=1)
    return model


def micro_batches(batch: Batch, train: TrainConfig) -> Iterator[Batch]:
    """This rank's part of a batch."""
    ids_BT, mask_BT, labels_B = batch
    start = dist.get_rank() * BATCH // train.workers
    for n in range(train.accumulation):
        part = slice(start + n * train.micro_batch, start + (n + 1) * train.micro_batch)
        yield ids_BT[part], mask_BT[part], labels_B[part]


def engine_losses(engine: Engine, train: TrainConfig, steps: range) -> list[float]:
    """Train on these steps; the loss of each is that of the whole batch."""
    losses = []
    for batch in batches()[steps.start : steps.stop]:
        total = torch.zeros(())
        for ids_BT, mask_BT, labels_B in micro_batches(batch, train):
            inputs: Any = SimpleNamespace(
                input_ids_BT=ids_BT.numpy(), attention_mask_BT=mask_BT.numpy(), token_types_BT=None
            )
            logits_BC = engine.forward(inputs).logits
            loss_B = F.cross_entropy(logits_BC.float(), labels_B, reduction="none")
            engine.learn(loss_B.sum() * (train.accumulation * train.workers / BATCH))
            total += loss_B.detach().sum()
        assert engine.sound()
        engine.move(LR)
        if train.workers > 1:
            dist.all_reduce(total)
        losses.append(float(total) / BATCH)
    return losses


def torch_losses(model: Any, clip: float) -> list[float]:
    """The same training in plain torch on the whole batch."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=LR, weight_decay=TrainConfig().weight_decay)
    losses = []
    for ids_BT, mask_BT, labels_B in batches():
        loss = F.cross_entropy(model(input_ids=ids_BT, attention_mask=mask_BT).logits, labels_B)
        optimizer.zero_grad()
        loss.backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(trainable, clip)
        optimizer.step()
        losses.append(float(loss))
    return losses


def trained(folder: Path, train: TrainConfig, precision: Any, *, frozen: bool = False) -> tuple[Any, Engine]:
    """Losses of a whole training, and its engine."""
    engine = Engine(classifier(folder, frozen=frozen), train, precision, train.workers)
    return engine_losses(engine, train, range(STEPS)), engine


def same_trainings(folder: Path) -> dict[str, Any]:
    """Every ZeRO stage, with clipping, accumulation and frozen weights, beside plain torch."""
    seen: dict[str, Any] = {}
    for clip, frozen in ((1.0, False), (0.05, False), (0.0, False), (1.0, True)):
        model = classifier(folder, frozen=frozen)
        losses = torch_losses(model, clip)
        seen[f"torch clip={clip} frozen={frozen}"] = {"losses": losses, "apart": 0.0, "missing": []}
        usual = clip == 1.0 and not frozen
        for stage, micro in [(s, m) for m in (None, 2) for s in (0, 1, 2, 3)] if usual else SOME:
            train = section(zero_stage=stage, clip=clip, micro_batch_size=micro)
            losses, engine = trained(folder, train, "fp32", frozen=frozen)
            name = f"zero={stage} micro={micro} clip={clip} frozen={frozen}"
            seen[name] = {"losses": losses, **weight_figures(engine.weights(), model)}
    return seen


def weight_figures(weights: dict[str, Tensor], model: Any) -> dict[str, Any]:
    """How `Engine.weights` compares with the plain model: names, types, the largest difference."""
    expected = model.state_dict()
    # A key's bias has no gradient but rounding, which Adam blows up; it moves no loss.
    compared = [name for name in expected if name in weights and "key.bias" not in name]
    return {
        "missing": sorted(expected.keys() ^ weights.keys()),
        "types": sorted({str(weight.dtype) for weight in weights.values() if weight.is_floating_point()}),
        "apart": max(float((weights[name] - expected[name]).abs().max()) for name in compared),
        "moved": sorted(name for name, weight in weights.items() if not torch.equal(weight, START[name])),
    }


def bf16_trainings(folder: Path) -> dict[str, Any]:
    """Every stage in bf16; the last is repeated, for it gives other gradients now and then when misset."""
    seen: dict[str, Any] = {}
    for n, stage in enumerate([0, 2, *[3] * (REPEATS if dist.get_world_size() > 1 else 1)]):
        losses, engine = trained(folder, section(zero_stage=stage), "bf16")
        weights = engine.weights()
        unrounded = [name for name, weight in weights.items() if (weight != weight.bfloat16()).any()]
        seen[f"zero={stage} #{n}"] = {"losses": losses, "unrounded": len(unrounded)}
    return seen


def resumed_trainings(folder: Path) -> dict[str, list[list[float]]]:
    """For each stage and type: the second half of the losses, undisturbed and after save and load."""
    seen = {}
    settings = [(0, "fp32"), (1, "fp32"), (2, "fp32"), (3, "fp32"), (2, "bf16"), (3, "bf16")]
    for stage, precision in settings if dist.get_world_size() > 1 else settings[::3]:
        train = section(zero_stage=stage)
        engine = Engine(classifier(folder), train, precision, train.workers)
        engine_losses(engine, train, range(HALF))
        place = folder / f"saved-{dist.get_world_size()}-{stage}-{precision}"
        engine.save(place)
        whole = engine_losses(engine, train, range(HALF, STEPS))
        again = Engine(classifier(folder), train, precision, train.workers)
        again.load(place)
        seen[f"zero={stage} {precision}"] = [whole, engine_losses(again, train, range(HALF, STEPS))]
    return seen


def converted_trainings(folder: Path) -> dict[str, list[float]]:
    """The second half of the losses on one worker, from what two workers saved."""
    seen = {}
    for stage, precision in ((0, "fp32"), (2, "fp32"), (3, "bf16")):
        train, saved = section(zero_stage=stage), folder / f"saved-2-{stage}-{precision}"
        sharded = is_sharded(saved)
        engine = Engine(classifier(folder), train, precision, 1, universal=sharded)
        engine.load(to_universal(saved) if sharded else saved)
        seen[f"zero={stage} {precision}"] = engine_losses(engine, train, range(HALF, STEPS))
    return seen


def unsound_gradients(folder: Path) -> dict[str, Any]:
    """A loss that is no number on the last rank alone: how many ranks see it, and what has moved by then."""
    seen = {}
    for stage, precision in ((0, "fp32"), (1, "fp32"), (2, "fp32"), (3, "fp32"), (1, "bf16"), (3, "bf16")):
        train = section(zero_stage=stage, micro_batch_size=2)
        engine = Engine(classifier(folder), train, precision, train.workers)
        before, bad = engine.weights(), dist.get_rank() == train.workers - 1
        for n, (ids_BT, mask_BT, labels_B) in enumerate(micro_batches(batches()[0], train)):
            inputs: Any = SimpleNamespace(
                input_ids_BT=ids_BT.numpy(), attention_mask_BT=mask_BT.numpy(), token_types_BT=None
            )
            loss = F.cross_entropy(engine.forward(inputs).logits.float(), labels_B)
            engine.learn(loss * (float("nan") if bad and n == 0 else 1.0))
        ranks = torch.tensor([0.0 if engine.sound() else 1.0])
        dist.all_reduce(ranks)
        moved = [name for name, weight in engine.weights().items() if not torch.equal(weight, before[name])]
        seen[f"zero={stage} {precision}"] = {"ranks": int(ranks), "moved": moved}
    return seen


START: dict[str, Tensor] = {}


def main(folder: Path, rank: int, world: int) -> None:
    """Run everything as one rank."""
    torch.set_num_threads(1)
    store = f"file://{folder}/group-{world}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world)
    START.update({name: weight.clone() for name, weight in classifier(folder).state_dict().items()})
    seen: dict[str, Any] = {
        "fp32": same_trainings(folder),
        "bf16": bf16_trainings(folder),
        "resumed": resumed_trainings(folder),
        "unsound": unsound_gradients(folder),
    }
    seen["faults"] = page_faults()
    if world == 1:
        seen["converted"] = converted_trainings(folder)
    if rank == 0:
        (folder / f"world-{world}.json").write_text(json.dumps(seen))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
