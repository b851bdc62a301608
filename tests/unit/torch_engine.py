"""The in-memory twin of `actors.engine.Engine`: plain torch, with DeepSpeed's way of counting.

DeepSpeed divides each micro-batch's loss by the accumulation steps and averages gradients over workers;
the last micro-batch of a step clips, moves the weights, and forgets the gradient. So does the twin.
Shapes: B batch, T tokens, C classes.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from actors.engine import inputs_of
from tutelage.config.schedule import value_at
from tutelage.config.train import TrainConfig
from tutelage.data.examples import Batch


class TorchEngine:
    """A model under AdamW on one worker of a world."""

    def __init__(self, model: Any, train: TrainConfig, world: ThreadWorld | None = None) -> None:
        self.device = torch.device("cpu")
        self.model = model
        self.norms: list[float] = []
        """Gradient norm of each step, before clipping."""
        self.rates: list[float] = []
        self.modes: list[bool] = []
        """For each forward pass: was the model in training mode?"""
        self.energy: Tensor | None = None
        self.steps = 0
        self._micro = 0
        self._accumulation = train.accumulation
        self._clip = train.clip
        self._world = world
        self._trainable = [p for p in self.model.parameters() if p.requires_grad]
        rate = value_at(train.lr, 0)
        self._optimizer = torch.optim.AdamW(self._trainable, lr=rate, weight_decay=train.weight_decay)

    def penalty(self) -> Tensor | None:
        """Nothing is held."""
        return None

    def penalty_energy(self) -> Tensor | None:
        """What a test says that a penalty is worth."""
        return self.energy

    def forward(self, batch: Batch) -> Any:
        """The model's output for the batch."""
        self.modes.append(self.model.training)
        return self.model(**inputs_of(batch, self.model))

    @contextmanager
    def writing(self) -> Iterator[None]:
        """`generate` works inside: dropout off."""
        self.model.eval()
        yield
        self.model.train()

    @torch.no_grad()
    def generate(self, input_ids_BP: Tensor, attention_mask_BP: Tensor, **settings: Any) -> Tensor:
        """Token ids [B, P + new]."""
        written: Tensor = self.model.generate(
            input_ids=input_ids_BP, attention_mask=attention_mask_BP, **settings
        )
        return written

    def train(self, mode: bool = True) -> None:
        """Switch dropout on or off."""
        self.model.train(mode)

    def learn(self, loss: Tensor) -> None:
        """Add the gradient of one micro-batch; the last one of a step is put together with other workers'."""
        (loss / self._accumulation).backward()
        self._micro += 1
        if self._micro % self._accumulation:
            return
        if self._world is not None:
            for parameter in self._trainable:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                parameter.grad = self._world.sum(parameter.grad) / self._world.size

    def sound(self) -> bool:
        """Whether the gradient is finite."""
        return all(bool(torch.isfinite(p.grad).all()) for p in self._trainable if p.grad is not None)

    def move(self, lr: float) -> None:
        """Clip, move the weights, forget the gradient."""
        assert self._micro % self._accumulation == 0
        limit = self._clip or float("inf")
        self.norms.append(float(torch.nn.utils.clip_grad_norm_(self._trainable, limit)))
        self.rates.append(lr)
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._optimizer.step()
        self._optimizer.zero_grad()
        self.steps += 1

    def weights(self) -> dict[str, Tensor]:
        """All weights by name, as a copy."""
        return {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    def state(self) -> dict[str, Any]:
        """Everything that a resumed engine needs, as a copy."""
        return copy.deepcopy({"model": self.model.state_dict(), "optimizer": self._optimizer.state_dict()})

    def take_up(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))

    def save(self, folder: str | Path) -> None:
        """Write the state below the folder."""
        torch.save(self.state(), Path(folder) / "engine.pt")

    def load(self, folder: str | Path) -> None:
        """Take up what `save` wrote."""
        self.take_up(torch.load(Path(folder) / "engine.pt"))


@dataclass
class Meeting:
    """Where the threads of one world put their values together."""

    size: int
    values: list[Tensor | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.values = [None] * self.size
        self.barrier = threading.Barrier(self.size, timeout=30)


class ThreadWorld:
    """One worker of a world whose workers are threads."""

    def __init__(self, rank: int, meeting: Meeting) -> None:
        self.rank = rank
        self.size = meeting.size
        self._meeting = meeting

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all workers, added in the order of their ranks, on every worker."""
        self._meeting.values[self.rank] = values
        self._meeting.barrier.wait()
        total = torch.stack([value for value in self._meeting.values if value is not None]).sum(0)
        self._meeting.barrier.wait()  # nobody overwrites what another still reads
        return total


def in_threads(size: int, work: Callable[[ThreadWorld], Any]) -> list[Any]:
    """What `work` returns on each worker of a world of so many threads."""
    meeting, found, failed = Meeting(size), [None] * size, []

    def run(rank: int) -> None:
        try:
            found[rank] = work(ThreadWorld(rank, meeting))
        except BaseException as error:
            failed.append(error)
            meeting.barrier.abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in failed:
        if not isinstance(error, threading.BrokenBarrierError):
            raise error
    return found
