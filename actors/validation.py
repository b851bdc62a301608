"""A training's student on rows that it is not trained on: the validation rows, and those that are watched.

Shapes: P positions of a micro-batch, V classes or vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actors.engine import Engine
from actors.losses import Losses
from actors.stream import SignalStream
from actors.training import Training
from actors.world import World
from tutelage.data.batches import shard
from tutelage.data.examples import Batch, Examples, Selection
from tutelage.objectives.competing import own_classes
from tutelage.signals.packet import Packet


@dataclass(frozen=True)
class Evaluation:
    """The student on the validation rows."""

    loss: float | None
    """Cross-entropy a position; None where nothing has a label."""
    accuracy: float | None
    """None where nothing has a label."""
    examples: int
    """Labelled positions."""
    fidelity: float | None = None
    """Mean KL from the teachers to the student; None where nobody asked for it."""

    @property
    def finite(self) -> bool:
        """Whether everything that was measured is a number."""
        return all(math.isfinite(value) for value in (self.loss, self.fidelity) if value is not None)

    def to_json(self) -> dict[str, Any]:
        """What was measured, under the names that points of a curve have; nothing for what was not."""
        found = {"accuracy": self.accuracy, "validation_loss": self.loss, "fidelity": self.fidelity}
        return {name: value for name, value in found.items() if value is not None}


class Validation:
    """Measures the student on the way; every worker takes part.

    Args:
        idle: takes part in a forward pass without a row.
        follow: also measure how closely the student follows its teachers; rows without labels then count.
    """

    def __init__(
        self,
        training: Training,
        engine: Engine,
        examples: Examples,
        stream: SignalStream,
        world: World,
        losses: Losses,
        pad_id: int,
        idle: Callable[[], Tensor],
        *,
        follow: bool,
    ) -> None:
        self._training, self._engine, self._examples = training, engine, examples
        self._stream, self._world, self._losses = stream, world, losses
        self._pad_id, self._idle, self._follow = pad_id, idle, follow
        held_out = examples.select("validation", sources=training.slices)
        self._rows = held_out if follow else _labelled(held_out)
        self.labelled = int(held_out.labelled.sum())
        """Validation rows with a label."""
        watched = np.array(training.watched, np.int64)
        self._watched = Selection(watched, np.ones(len(watched), bool))

    def __len__(self) -> int:
        return len(self._rows)

    @torch.no_grad()
    def evaluate(self) -> Evaluation:
        """Accuracy and cross-entropy a position on the labelled validation rows. Collective."""
        parts = self._parts(self._rows)
        batches = (self._batch(self._rows, part) for part in parts if len(part))
        paired = self._stream.pair(batches) if self._follow else ((batch, []) for batch in batches)
        sums = torch.zeros(5, dtype=torch.float64)
        self._engine.train(False)
        for part in parts:
            if len(part):
                sums += self._measure(*next(paired))
            else:
                self._idle()
        self._engine.train()
        loss, right, count, far, places = self._world.sum(sums).tolist()
        return Evaluation(_share(loss, count), _share(right, count), int(count), _share(far, places))

    @torch.no_grad()
    def watched(self) -> dict[str, float]:
        """The accuracy of the watched rows by slice; empty where none are. Collective."""
        rows = self._watched.rows
        if not len(rows):
            return {}
        slices = np.array(self._examples.slices(rows))
        names = list(dict.fromkeys(slices.tolist()))
        right = torch.zeros(len(names), dtype=torch.float64)
        self._engine.train(False)
        for part in self._parts(self._watched):
            if not len(part):
                self._idle()
                continue
            logits_PV, labels_P = self._answers(self._batch(self._watched, part))
            right_P = (logits_PV.argmax(-1) == labels_P).double()
            for n, name in enumerate(names):
                right[n] += right_P[torch.from_numpy(slices[part] == name)].sum()
        self._engine.train()
        shares = (self._world.sum(right) / torch.tensor([(slices == name).sum() for name in names])).tolist()
        return dict(zip(names, shares, strict=True))

    def _parts(self, chosen: Selection) -> list[NDArray[np.int64]]:
        """This worker's micro-batches of a selection, of similar length; as many on every worker."""
        train, world = self._training.train, self._world
        order = np.argsort(self._examples.lengths(chosen.rows), kind="stable")
        starts = range(0, len(order), train.batch_size)
        batches = (order[start : start + train.batch_size] for start in starts)
        return [
            part
            for batch in batches
            for part in shard(batch, world.size, world.rank, train.micro_batch, train.batch_size)
        ]

    def _batch(self, chosen: Selection, positions: NDArray[np.int64]) -> Batch:
        return self._examples.batch(chosen.rows[positions], chosen.labelled[positions], self._pad_id)

    def _answers(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits [P, V] of the classes that compete, and labels [P], on the CPU."""
        rows = self._losses.task.student(self._engine.forward(batch), batch)
        labels_P = rows.labels_P.cpu()
        return own_classes(rows.logits_PV.float().cpu(), labels_P, self._training.groups), labels_P

    def _measure(self, data: Batch, packets: list[Packet | None]) -> Tensor:
        """Sums over a batch, fp64 [5]: cross-entropy, right answers, labels; KL from teachers, positions."""
        rows = self._losses.task.student(self._engine.forward(data), data)
        labels_P = rows.labels_P.cpu()
        logits_PV = own_classes(rows.logits_PV.float().cpu(), labels_P, self._training.groups)
        loss = torch.nn.functional.cross_entropy(logits_PV, labels_P, ignore_index=-1, reduction="sum")
        sums = [loss, (logits_PV.argmax(-1) == labels_P).sum(), (labels_P >= 0).sum()]
        if self._follow:
            far_P = self._losses.fidelity(rows, data, packets)
            sums += [far_P.sum().cpu(), torch.tensor(len(far_P))]
        return torch.stack([*sums, *[torch.zeros(())] * (5 - len(sums))]).double()


def _labelled(selection: Selection) -> Selection:
    return Selection(selection.rows[selection.labelled], selection.labelled[selection.labelled])


def _share(total: float, count: float) -> float | None:
    return total / count if count else None
