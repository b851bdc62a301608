"""A penalty on the weights of a DeepSpeed engine: at its optimiser's step, on the fp32 shards it works on.

The layout of the shards is DeepSpeed's own. It is never computed here: values are written where the weights
stand, by DeepSpeed's own calls, the shards are copied, and the weights put back. The same way leads back from
shards to names. That holds for ZeRO 0 to 3 and any number of workers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tutelage.continual.anchors import grown
from tutelage.continual.importance import read_tensors, write_tensors
from tutelage.continual.kfac import Blocks, Kronecker
from tutelage.continual.penalty import PathIntegral, Quadratic, StepRule, attach

_PATH = "path.safetensors"


class Shards:
    """The fp32 tensors that one worker's optimiser moves, and the names of what stands in them."""

    def __init__(self, engine: Any, optimizer: torch.optim.Optimizer, stage: int) -> None:
        self._stage = stage
        self._named = {n: p for n, p in engine.module.named_parameters() if p.requires_grad}
        self.tensors: list[Tensor] = (
            list(engine.optimizer.fp32_partitioned_groups_flat)
            if stage == 3
            else [tensor for group in optimizer.param_groups for tensor in group["params"]]
        )

    @property
    def whole(self) -> bool:
        """Whether every worker holds all weights."""
        return self._stage == 0

    def shape(self, name: str) -> tuple[int, ...]:
        """The whole shape of a parameter."""
        parameter = self._named[name]
        return tuple(getattr(parameter, "ds_shape", parameter.shape))

    @property
    def names(self) -> list[str]:
        """Parameters that are trained."""
        return list(self._named)

    @torch.no_grad()
    def spread(self, values: Mapping[str, Tensor]) -> list[Tensor]:
        """Whole values by name -> this worker's shards, 0 where no value is given. Collective."""
        kept = [tensor.detach().clone() for tensor in self.tensors]
        for tensor in self.tensors:
            tensor.data.zero_()
        for name, parameter in self._named.items():
            value = values.get(name)
            self._put(parameter, torch.zeros(self.shape(name)) if value is None else value.float())
        found = [tensor.detach().clone() for tensor in self.tensors]
        self._restore(kept)
        return found

    @torch.no_grad()
    def gather(self, shards: list[Tensor]) -> dict[str, Tensor]:
        """The shards of all workers -> whole values by name, fp32 on CPU. Collective."""
        kept = [tensor.detach().clone() for tensor in self.tensors]
        for tensor, shard in zip(self.tensors, shards, strict=True):
            tensor.data.copy_(shard)
        found = {name: self._whole(parameter, self.shape(name)) for name, parameter in self._named.items()}
        self._restore(kept)
        return found

    def _restore(self, kept: list[Tensor]) -> None:
        for tensor, before in zip(self.tensors, kept, strict=True):
            tensor.data.copy_(before)

    def _put(self, parameter: Any, value: Tensor) -> None:
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_local_fp32_param

        if self._stage == 0:
            parameter.data.copy_(value)
        elif self._stage == 3:
            # The call for whole values refuses those whose size is no multiple of the workers.
            size, rank = int(parameter.ds_tensor.ds_numel), _rank()
            flat = torch.nn.functional.pad(value.flatten(), (0, size * _workers() - value.numel()))
            safe_set_local_fp32_param(parameter, flat[rank * size : (rank + 1) * size])
        else:
            safe_set_full_fp32_param(parameter, value)

    def _whole(self, parameter: Any, shape: tuple[int, ...]) -> Tensor:
        from deepspeed.utils import safe_get_full_fp32_param

        value = parameter if self._stage == 0 else safe_get_full_fp32_param(parameter)
        whole: Tensor = value.detach().to("cpu", torch.float32, copy=True).reshape(shape)
        return whole


class Held:
    """What holds the weights of one training.

    Args:
        shards: of the engine.
        optimizer: whose steps are watched.
        strength: curvature by name of parameter; what has no entry is free.
        center: where weights are held, by name.
        proximal: how; see `tutelage.continual.penalty`.
        path: also gather what synaptic intelligence needs.
        blocks: Kronecker blocks, which take the place of the diagonal where there is one; whole weights only.
        stiff: lambda of the blocks.
    """

    def __init__(
        self,
        shards: Shards,
        optimizer: torch.optim.Optimizer,
        strength: Mapping[str, Tensor],
        center: Mapping[str, Tensor],
        *,
        proximal: bool,
        path: bool,
        blocks: Blocks | None = None,
        stiff: float = 0.0,
    ) -> None:
        self._shards = shards
        if blocks is not None:
            # A head that has grown has another block; its old rows are held by their diagonal.
            whole = {n for n in blocks.inputs if n in center and blocks.fits(n, center[n])}
            strength = {name: value for name, value in strength.items() if name not in whole}
        quadratic = Quadratic(shards.spread(strength), shards.spread(center), proximal=proximal)
        self._path = PathIntegral(shards.tensors) if path else None
        self._explicit = not proximal
        self._penalties: list[Quadratic | Kronecker] = [quadratic]
        if blocks is not None:
            device = shards.tensors[0].device
            kronecker = Kronecker(blocks, center, shards.names, stiff, device, proximal=proximal)
            self._penalties.insert(0, kronecker)
        path_first: list[StepRule] = [] if self._path is None else [self._path]
        attach(optimizer, [*path_first, *self._penalties], shards.tensors)

    def energy(self) -> Tensor | None:
        """This worker's part of an explicit penalty's value, fp32 [] on CPU; None where it is proximal."""
        if not self._explicit:
            return None
        parts = [
            rule.energy(index, theta)
            for index, theta in enumerate(self._shards.tensors)
            for rule in self._penalties
        ]
        total = torch.stack(parts).sum().cpu()
        return total / _workers() if self._shards.whole else total

    def importance(self, xi: float) -> dict[str, Tensor] | None:
        """Of the path so far, by name; None where no path is gathered. Collective."""
        if self._path is None:
            return None
        return self._shards.gather(self._path.importance(self._shards.tensors, xi))

    def save(self, folder: Path) -> None:
        """Keep the path beside the engine's own checkpoint, whole and by name. Collective."""
        if self._path is None:
            return
        omega = {f"omega.{name}": v for name, v in self._shards.gather(self._path.omega).items()}
        start = {f"start.{name}": v for name, v in self._shards.gather(self._path.start).items()}
        if _rank() == 0:
            write_tensors(folder / _PATH, omega | start, {})

    def load(self, folder: Path) -> None:
        """Go on with the path that `save` kept, on any number of workers. Collective."""
        if self._path is None:
            return
        kept, _ = read_tensors(folder / _PATH)
        for part in ("omega", "start"):
            mine = {n.removeprefix(f"{part}."): v for n, v in kept.items() if n.startswith(f"{part}.")}
            setattr(self._path, part, self._shards.spread(mine))


def fitted(values: Mapping[str, Tensor], shards: Shards) -> dict[str, Tensor]:
    """The values of what is trained, with rows of 0 where a head has grown."""
    return {name: grown(values[name], shards.shape(name)) for name in shards.names if name in values}


def _rank() -> int:
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def _workers() -> int:
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
