"""One DeepSpeed engine: what the training loop needs of it, and nothing else.

Shapes: B batch, T tokens.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from actors.allocator import keep_freed_memory
from actors.held import Held, Shards, fitted
from actors.training import Increment
from tutelage.config.schedule import value_at
from tutelage.config.train import TrainConfig
from tutelage.continual.adapters import AdapterPenalty
from tutelage.continual.anchors import Anchors
from tutelage.continual.kfac import Blocks
from tutelage.data.examples import Batch
from tutelage.errors import TrainError
from tutelage.models.precision import Type
from tutelage.tasks.inputs import accepts

_TAG = "engine"


class Engine:
    """A model under DeepSpeed ZeRO 0 to 3 in fp32, bf16 or fp16; the process group exists already."""

    def __init__(
        self, model: Any, train: TrainConfig, precision: Type, world_size: int, *, universal: bool = False
    ) -> None:
        deepspeed = _import_deepspeed()
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        rate = value_at(train.lr, 0)  # set anew before every step
        optimizer = torch.optim.AdamW(trainable, lr=rate, weight_decay=train.weight_decay, fused=True)
        self._adamw = optimizer
        self._engine, self._optimizer, *_ = deepspeed.initialize(
            model=model,
            optimizer=optimizer,
            model_parameters=trainable,
            config=engine_config(train, precision, world_size, universal=universal),
            dist_init_required=False,
        )
        self._stage = zero_stage(train, precision)
        self._fp16 = precision == "fp16"
        self._counted = False
        """A micro-batch was learned whose step DeepSpeed has not been told of."""
        self._held: Held | None = None
        self._adapters: AdapterPenalty | None = None
        self.device = self._engine.device
        if self.device.type == "cpu":
            keep_freed_memory()

    def hold(self, increment: Increment) -> None:
        """Hold the weights as an update says; called once, before the first step. Collective."""
        section = increment.regulariser
        if section is None:
            return
        anchors = Anchors.load(Path(increment.anchors))
        strength = anchors.strength(increment.strength)
        if hasattr(self._engine.module, "peft_config"):
            if self._stage == 3:
                raise TrainError(
                    "update.train.zero_stage is 3, and the penalty of adapters needs whole weights",
                    fix="update.train.zero_stage=2 or less: adapters are small",
                )
            self._adapters = AdapterPenalty(self._engine.module, strength, anchors.center, self.device)
            return
        if increment.blocks and self._stage != 0:
            raise TrainError(
                f"regulariser kfac holds whole weights, and this precision runs as ZeRO stage {self._stage}",
                fix="update.train.precision=fp32 with zero_stage 0, or regulariser online-ewc",
            )
        shards = Shards(self._engine, self._adamw, self._stage)
        self._held = Held(
            shards,
            self._adamw,
            fitted(strength, shards),
            fitted(anchors.center, shards),
            proximal=section.step == "proximal",
            path=section.type == "si",
            blocks=Blocks.load(Path(increment.blocks)) if increment.blocks else None,
            stiff=increment.strength,
        )

    def penalty(self) -> Tensor | None:
        """What a loss must hold of the penalty: that of adapters alone, whose weights stand in no tensor."""
        return None if self._adapters is None else self._adapters.loss()

    def penalty_energy(self) -> Tensor | None:
        """This worker's part of what an explicit penalty is worth, fp32 []; None where none is."""
        if self._adapters is not None:
            workers = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
            return self._adapters.loss().detach().float().cpu() / workers
        return None if self._held is None else self._held.energy()

    def path_importance(self, xi: float) -> dict[str, Tensor] | None:
        """Importance gathered along the training, by name; None where nothing gathers it. Collective."""
        return None if self._held is None else self._held.importance(xi)

    def forward(self, batch: Batch) -> Any:
        """The model's output for the batch."""
        inputs = inputs_of(batch, self._engine.module)
        return self._engine(**{name: value.to(self.device) for name, value in inputs.items()})

    @contextmanager
    def writing(self) -> Iterator[None]:
        """`generate` works inside: weights whole, dropout off. Collective."""
        deepspeed = _import_deepspeed()
        parameters = list(self._engine.module.parameters())
        self._engine.eval()
        with deepspeed.zero.GatheredParameters(parameters, enabled=self._stage == 3):
            yield
        self._engine.train()

    @torch.no_grad()
    def generate(self, input_ids_BP: Tensor, attention_mask_BP: Tensor, **settings: Any) -> Tensor:
        """Token ids [B, P + new] as transformers' `generate` continues the prompts."""
        written: Tensor = self._engine.module.generate(
            input_ids=input_ids_BP.to(self.device),
            attention_mask=attention_mask_BP.to(self.device),
            **settings,
        )
        return written

    def train(self, mode: bool = True) -> None:
        """Switch dropout on or off."""
        self._engine.train(mode)

    def learn(self, loss: Tensor) -> None:
        """Add the gradient of one micro-batch. After the last one of a step, `move` ends the step."""
        if self._counted:
            # DeepSpeed counts micro-batches by calls of its step.
            self._engine.step()
        self._engine.backward(loss)
        self._counted = True

    def sound(self) -> bool:
        """Whether this worker's part of a step's gradient is finite; asked before `move`.

        In fp16 always: DeepSpeed then leaves out the step by itself, and lowers the scale of the loss.
        """
        if self._fp16:
            return True
        found = [gradient for gradient in self._gradients() if gradient.numel()]
        largest = torch.nn.utils.get_total_norm(found, norm_type=float("inf")) if found else torch.zeros(())
        return bool(torch.isfinite(largest))

    def _gradients(self) -> list[Tensor]:
        """What the optimiser is about to step by: of this worker, reduced over all."""
        if self._stage == 0:
            return [p.grad for p in self._engine.module.parameters() if p.grad is not None]
        groups = self._engine.optimizer.averaged_gradients.values()
        return [gradient for group in groups for gradient in group or [] if gradient is not None]

    def move(self, lr: float) -> None:
        """End the step: clip, and move the weights."""
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._engine.step()
        self._counted = False

    def weights(self) -> dict[str, Tensor]:
        """All weights by name in fp32 on CPU, from the fp32 masters where there are some.

        Collective: every worker calls it, and every worker gets the weights.
        """
        deepspeed = _import_deepspeed()
        from deepspeed.utils import safe_get_full_fp32_param

        found: dict[str, Tensor] = {}
        for name, parameter in self._engine.module.named_parameters():
            master = safe_get_full_fp32_param(parameter) if parameter.requires_grad else None
            if master is None:
                with deepspeed.zero.GatheredParameters([parameter], enabled=self._stage == 3):
                    master = parameter.detach()
            found[name] = master.detach().to("cpu", torch.float32, copy=True).reshape(_full_shape(parameter))
        persistent = self._engine.module.state_dict().keys()
        found |= {n: b.detach().cpu() for n, b in self._engine.module.named_buffers() if n in persistent}
        return found

    def save(self, folder: str | Path) -> None:
        """Write this worker's part of the engine's state below the folder. Collective."""
        self._engine.save_checkpoint(str(folder), tag=_TAG)
        if self._held is not None:
            self._held.save(Path(folder))

    def load(self, folder: str | Path, path: str | Path | None = None) -> None:
        """Take up the state that `save` wrote, of all workers. Raises TrainError when it does not fit.

        `path`: where `save` wrote, when the folder is a converted one.
        """
        if self._held is not None:
            self._held.load(Path(path or folder))
        path, _ = self._engine.load_checkpoint(str(folder), tag=_TAG)
        if path is None:
            raise TrainError(f"{folder}: holds no engine state", fix="start the run again with --fresh")


def lone_group() -> None:
    """The process group that DeepSpeed wants, with one member; it lives as long as the process."""
    import torch.distributed as dist

    if dist.is_initialized():
        return
    os.environ.setdefault("LOCAL_RANK", "0")
    # By its path: a URL of a folder that holds `?` or `%` names another one.
    torch_store: Any = dist.FileStore  # type: ignore[attr-defined]
    store = torch_store(str(Path(tempfile.mkdtemp(prefix="tutelage-")) / "group"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)


def inputs_of(batch: Batch, model: Any) -> dict[str, Tensor]:
    """What the model is called with: int64 [B, T] each."""
    inputs = {
        "input_ids": torch.from_numpy(batch.input_ids_BT),
        "attention_mask": torch.from_numpy(batch.attention_mask_BT),
    }
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model  # peft hides arguments
    if batch.token_types_BT is not None and accepts(plain, "token_type_ids"):
        inputs["token_type_ids"] = torch.from_numpy(batch.token_types_BT)
    return inputs


def engine_config(
    train: TrainConfig, precision: Type, world_size: int, *, universal: bool = False
) -> dict[str, Any]:
    """The DeepSpeed config of a training section."""
    return {
        "train_batch_size": train.batch_size,
        "train_micro_batch_size_per_gpu": train.micro_batch,
        "gradient_accumulation_steps": train.accumulation,
        # Left out, this key means 1.0, not off.
        "gradient_clipping": train.clip,
        "zero_optimization": {
            "stage": zero_stage(train, precision),
            # Contiguous buffers gave wrong gradients now and then with stage 3, bf16 and two CPU workers.
            "contiguous_gradients": False,
        },
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": precision == "bf16"},
        "fp16": {"enabled": precision == "fp16", "initial_scale_power": 12},
        "checkpoint": {"load_universal": universal},
        "steps_per_print": 10**9,
        "wall_clock_breakdown": False,
    }


def zero_stage(train: TrainConfig, precision: Type) -> int:
    """The ZeRO stage that runs: in bf16 and fp16 at least 1.

    DeepSpeed's stage 0 keeps its fp32 masters in an optimizer that gives them to nobody, so `weights`
    would be rounded, and its trajectory leaves fp32 ten times as far as that of the other stages.
    """
    return train.zero_stage if precision == "fp32" else max(1, train.zero_stage)


def is_sharded(folder: Path) -> bool:
    """True when each worker saved a part of the optimizer state: another number needs `to_universal`."""
    return any((folder / _TAG).glob("*_optim_states.pt"))


def to_universal(folder: Path) -> Path:
    """Convert sharded state so that another number of workers can load it; returns the new folder."""
    target = folder.parent / f"{folder.name}-universal"
    command = [
        sys.executable,
        "-m",
        "deepspeed.checkpoint.ds_to_universal",
        "--input_folder",
        str(folder / _TAG),
        "--output_folder",
        str(target / _TAG),
        "--inject_missing_state",
        "--num_extract_workers",
        "1",
        "--num_merge_workers",
        "1",
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise TrainError(
            f"{folder}: cannot be converted for another number of workers: {done.stderr.strip()[-300:]}",
            fix="resume with the number of workers that wrote it",
        )
    return target


def _full_shape(parameter: Any) -> tuple[int, ...]:
    return tuple(getattr(parameter, "ds_shape", parameter.shape))


def _import_deepspeed() -> Any:
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"deepspeed|torch\.distributed")
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    import deepspeed
    import deepspeed.ops

    # The shared-memory op is compiled for 45 s on first use, and a build that was killed leaves a
    # lock on which every later start waits; gloo does the same job.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed
