"""One rank of a gloo group that trains held weights under every ZeRO stage and writes what it saw.

`python -m tests.ray.held_matrix FOLDER RANK WORLD`: rank 0 writes FOLDER/held-WORLD.json.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from actors.engine import Engine
from actors.training import Increment
from tests.ray.engine_matrix import LR, STEPS, batches, classifier, engine_losses, section
from tutelage.config.train import TrainConfig
from tutelage.config.update import EWC, KFAC, SI
from tutelage.continual.anchors import Anchors
from tutelage.continual.kfac import Blocks
from tutelage.errors import TrainError

STRENGTH = 20.0


def anchors(folder: Path) -> Anchors:
    """Importance and centres of every weight but the head's, away from where the training starts."""
    generator = torch.Generator().manual_seed(3)
    body = {n: p for n, p in classifier(folder).named_parameters() if not n.startswith("classifier")}
    importance = {n: torch.rand(p.shape, generator=generator) for n, p in body.items()}
    center = {n: p.detach() + 0.05 * torch.randn(p.shape, generator=generator) for n, p in body.items()}
    return Anchors.empty().add(importance, center)


def plainly(folder: Path, step: str) -> dict[str, Any]:
    """The same training in a loop that has the penalty in its loss, or pulls after its step."""
    model, held = classifier(folder), anchors(folder)
    strength = held.strength(STRENGTH)
    parameters = dict(model.named_parameters())
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=TrainConfig().weight_decay)
    losses = []
    for ids_BT, mask_BT, labels_B in batches():
        loss = F.cross_entropy(model(input_ids=ids_BT, attention_mask=mask_BT).logits, labels_B)
        total = loss
        if step == "explicit":
            total = loss + sum(
                (0.5 * k * (parameters[n] - held.center[n]) ** 2).sum() for n, k in strength.items()
            )
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        if step == "proximal":
            with torch.no_grad():
                for name, k in strength.items():
                    theta = parameters[name]
                    theta.copy_((theta + LR * k * held.center[name]) / (1 + LR * k))
        losses.append(float(loss))
    apart = [k * (parameters[n].detach() - held.center[n]) ** 2 for n, k in strength.items()]
    return {"losses": losses, "energy": float(sum(one.sum() for one in apart)) / 2}


def engine(folder: Path, increment: Increment, precision: Any, **changes: Any) -> tuple[Engine, TrainConfig]:
    """A held engine; clipping is off, since a plain loop clips the penalty too."""
    train = section(clip=0.0, **changes)
    made = Engine(classifier(folder), train, precision, train.workers)
    made.hold(increment)
    return made, train


def trajectories(folder: Path, increments: dict[str, Increment]) -> dict[str, Any]:
    """Losses of every stage, precision and step; of SI also what its path gives."""
    seen: dict[str, Any] = {}
    for name, increment in increments.items():
        for precision, stages in (("fp32", (0, 1, 2, 3)), ("bf16", (1, 2, 3)), ("fp16", (1, 2, 3))):
            for stage in stages:
                micro = 2 if stage == 2 else None
                made, train = engine(folder, increment, precision, zero_stage=stage, micro_batch_size=micro)
                found: dict[str, Any] = {"losses": engine_losses(made, train, range(STEPS))}
                energy = made.penalty_energy()
                if energy is not None:
                    dist.all_reduce(energy)
                    found["energy"] = float(energy)
                path = made.path_importance(1e-3)
                if path is not None:
                    found["path"] = summary(path)
                seen[f"{name} {precision} {stage}"] = found
    return seen


def kronecker(folder: Path, file: Path) -> dict[str, Any]:
    """Blocks through the engine: whole weights in fp32, and what happens where there are none."""
    body = {
        n: p for n, p in classifier(folder).named_parameters() if n.endswith(("query.weight", "key.weight"))
    }
    generator = torch.Generator().manual_seed(9)

    def spread(size: int) -> Tensor:
        drawn = torch.randn(size, 2 * size, generator=generator)
        return drawn @ drawn.T / size

    blocks = Blocks(
        {n: spread(p.shape[1]) for n, p in body.items()}, {n: spread(len(p)) for n, p in body.items()}
    )
    blocks.save(file.with_suffix(".blocks"))
    section = KFAC(type="kfac")
    increment = Increment(
        regulariser=section, strength=1e9, anchors=str(file), blocks=str(file.with_suffix(".blocks"))
    )
    made, train = engine(folder, increment, "fp32")
    losses = engine_losses(made, train, range(STEPS))
    weights, center = made.weights(), Anchors.load(file).center
    seen: dict[str, Any] = {
        "losses": losses,
        "off": max(float((weights[n] - center[n]).abs().max()) for n in body),
    }
    try:
        engine(folder, increment, "bf16", zero_stage=1)
    except TrainError as error:
        seen["refused"] = error.problem
    return seen


def resumed(folder: Path, increment: Increment) -> dict[str, Any]:
    """A path that is saved and taken up again in the middle, and one that is not interrupted."""
    seen = {}
    for stage in (0, 2):
        whole, train = engine(folder, increment, "fp32", zero_stage=stage)
        engine_losses(whole, train, range(STEPS))
        first, _ = engine(folder, increment, "fp32", zero_stage=stage)
        engine_losses(first, train, range(2))
        place = folder / f"saved-{stage}-{train.workers}"
        place.mkdir(exist_ok=True)
        first.save(place)
        dist.barrier()
        second, _ = engine(folder, increment, "fp32", zero_stage=stage)
        second.load(place)
        engine_losses(second, train, range(2, STEPS))
        paths = [one.path_importance(1e-3) for one in (whole, second)]
        seen[str(stage)] = [None if path is None else summary(path) for path in paths]
    return seen


def summary(path: dict[str, Tensor]) -> list[float]:
    """A few numbers that stand for all."""
    return [float(value.double().sum()) for value in path.values()]


def allow_fp16() -> None:
    """DeepSpeed refuses fp16 on CPUs without instructions for it; torch computes it anyway, slowly."""
    from deepspeed.accelerator import get_accelerator

    accelerator: Any = get_accelerator()
    accelerator.is_fp16_supported = lambda: True


def main() -> None:
    """Run all of it."""
    allow_fp16()
    folder, rank, world = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/group-{world}", rank=rank, world_size=world)
    file = folder / f"anchors-{world}-{rank}.safetensors"
    anchors(folder).save(file)

    def increment(section: Any) -> Increment:
        return Increment(regulariser=section, strength=STRENGTH, anchors=str(file))

    increments = {
        "explicit": increment(EWC(type="ewc", step="explicit")),
        "proximal": increment(EWC(type="ewc", step="proximal")),
        "si": increment(SI(type="si")),
    }
    seen = trajectories(folder, increments)
    seen["kfac"] = kronecker(folder, file)
    seen["resumed"] = resumed(folder, increments["si"])
    if rank == 0:
        seen |= {f"plain {step}": plainly(folder, step) for step in ("explicit", "proximal")}
        free, train = engine(folder, Increment(), "fp32")
    else:
        free, train = engine(folder, Increment(), "fp32")
    seen["free"] = {"losses": engine_losses(free, train, range(STEPS))}
    if rank == 0:
        (folder / f"held-{world}.json").write_text(json.dumps(seen))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
