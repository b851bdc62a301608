"""The training loop: the same for a teacher and for the student, on any number of workers.

    for each batch: signals from the stream -> loss terms -> DeepSpeed backward and step

The loss of a step is the sum over the positions of the global batch divided by their number. Shapes:
B batch, T tokens, P positions of a micro-batch, V classes or vocabulary, K teachers, N examples.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actors.engine import Engine
from actors.losses import Losses
from actors.rollout import Rollout
from actors.stream import Pair, SignalStream
from actors.training import Training, TrainState, learning_rate
from tutelage.data.batches import BatchPlan, ReplayPlan, shard
from tutelage.data.examples import Batch, Examples, Selection
from tutelage.errors import DivergedError, TrainError
from tutelage.objectives.competing import own_classes
from tutelage.signals.packet import Packet

LOGGED_STEPS = 2000
"""About this many steps of a training are kept as points of its curve."""
WATCHED_STEPS = 10
"""An explicit penalty is looked at every so many steps."""
DIVERGED = 30.0
"""A penalty of so many times the first loss is no noise."""
PATIENCE = 2
"""So many looks later it must have come back."""


class World(Protocol):
    """The workers of one training."""

    rank: int
    size: int

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all workers, on every worker."""
        ...


class Keeper(Protocol):
    """Where a training says how it goes, and leaves its checkpoints."""

    def progress(self, state: TrainState, total: int) -> None:
        """Called after every step on every worker."""

    def checkpoint(self, state: TrainState, best: dict[str, Tensor] | None) -> None:
        """Called on every worker; keeps engine, state and best weights together."""


@dataclass
class Solo:
    """The world of a single worker."""

    rank: int = 0
    size: int = 1

    def sum(self, values: Tensor) -> Tensor:
        """The values."""
        return values


@dataclass(frozen=True)
class Evaluation:
    """The student on the validation rows."""

    loss: float
    accuracy: float
    examples: int
    fidelity: float | None = None
    """Mean KL from the teachers to the student; None where nobody asked for it."""


class Trainer:
    """Runs one training from a state to its end."""

    def __init__(
        self,
        training: Training,
        engine: Engine,
        examples: Examples,
        stream: SignalStream,
        world: World,
        keeper: Keeper,
        pad_id: int,
        end_id: int | None = None,
        *,
        follow: bool = False,
    ) -> None:
        """`follow` also measures on the validation rows how closely the student follows its teachers."""
        self._follow = follow
        self._training = training
        self._engine = engine
        self._examples = examples
        self._stream = stream
        self._world = world
        self._keeper = keeper
        self._pad_id = pad_id
        self._rollout = _rollout(training, pad_id, end_id)
        channels = {channel.name: channel for channel in stream.channels}
        self._losses = Losses(training, examples, lambda name: channels[name].head())
        self._terms = self._losses.terms
        self._chosen = examples.select("train", training.picks)
        if not len(self._chosen):
            raise TrainError(
                f"{training.run}: no rows to train on", fix="check data.sources and their splits"
            )
        train = training.train
        self._plan = batch_plan(training, examples, self._chosen)
        steps = train.epochs * self._plan.steps_per_epoch
        self.total = min(steps, train.max_steps or steps)
        held_out = examples.select("validation", sources=training.slices)
        self._validation = held_out if follow else self._labelled(held_out)
        watched = np.array(training.watched, np.int64)
        self._watched = Selection(watched, np.ones(len(watched), bool))
        if train.early_stop and not len(self._validation):
            raise TrainError(
                f"{training.run}: train.early_stop watches {train.early_stop.metric}, "
                "and no validation row has a label",
                fix="label some validation rows, or remove train.early_stop",
            )

    def run(self, state: TrainState, best: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Train from `state` (changed in place) to the end; returns the chosen weights, fp32 on CPU.

        Raises TrainError when the loss is no longer a number, DivergedError when a penalty takes over.
        """
        train, spe = self._training.train, self._plan.steps_per_epoch
        evaluate_every, keep_every = train.evaluate_every or spe, train.checkpoint_every or spe
        # Models are loaded in evaluation mode, and DeepSpeed leaves them there: no dropout.
        self._engine.train()
        if not state.step:
            self._watch_old(state)
        while state.step < self.total and not state.stopped_early:
            epoch, offset = divmod(state.step, spe)
            batches = self._plan.epoch(epoch)[offset:][: self.total - state.step]
            for step in self._epoch(batches, epoch, state):
                point = step
                last = state.step == self.total
                if state.step % evaluate_every == 0 or last:
                    point, best = self._judge(point, state, best)
                    self._watch_old(state)
                if last or "accuracy" in point or state.step % self._log_every == 0:
                    state.points.append(point)
                keeps = state.step % keep_every == 0 or last or state.stopped_early
                if keeps or state.step % WATCHED_STEPS == 0:
                    # A checkpoint is of a good state only.
                    keeps = self._holds(state, last=last or state.stopped_early) and keeps
                self._keeper.progress(state, self.total)
                if keeps:
                    self._share_signals()
                    self._keeper.checkpoint(state, best)
                if state.stopped_early:
                    break
        return best if train.early_stop and best is not None else self._engine.weights()

    def _penalty(self) -> float | None:
        """What an explicit penalty is worth now, over all workers; None where none is. Collective."""
        part = self._engine.penalty_energy() if self._training.increment else None
        return None if part is None else float(self._world.sum(part.reshape(1)))

    def _holds(self, state: TrainState, *, last: bool) -> bool:
        """False while an explicit penalty is worth far more than there was to gain. Collective.

        A step that descends on the sum of loss and penalty does not let the penalty exceed what the sum was
        before the first step. Under Adam all weights overshoot together at first and come back, so it is only
        an error when it stays: raises DivergedError then, and where the training ends with it.
        """
        increment, penalty = self._training.increment, self._penalty()
        if increment is None or penalty is None or state.start_loss is None:
            return True
        if penalty <= 2 * state.start_penalty + DIVERGED * max(state.start_loss, 0.1):
            state.climbing = None
            return True
        if state.climbing is None:
            state.climbing = state.step
        if last or not math.isfinite(penalty) or state.step - state.climbing >= PATIENCE * WATCHED_STEPS:
            raise self._diverged(
                f"the penalty is {penalty:.3g} at step {state.step}, and the loss began with "
                f"{state.start_loss:.3g}"
            )
        return False

    def _diverged(self, problem: str) -> DivergedError:
        """The penalty is too stiff for explicit steps of this size."""
        increment = self._training.increment
        assert increment is not None
        adapters = self._training.method.type == "lora"
        return DivergedError(
            f"{self._training.run}: lambda {increment.strength:g} diverges: {problem}",
            fix="lower update.regulariser.strength or update.train.lr"
            if adapters
            else "update.regulariser.step=proximal, which is stable for any lambda",
        )

    def _share_signals(self) -> None:
        """Every worker sees what all have flushed, so no example is asked of a teacher twice. Collective."""
        self._stream.flush()
        self._world.sum(torch.zeros(1))  # nobody looks before the last one has written
        self._stream.refresh()

    @property
    def _log_every(self) -> int:
        return max(1, self.total // LOGGED_STEPS)

    def _epoch(
        self, batches: list[NDArray[np.int64]], epoch: int, state: TrainState
    ) -> Iterator[dict[str, Any]]:
        """Train on the batches; after each step, count it and say what it measured."""
        train, world = self._training.train, self._world
        steps = [
            shard(batch, world.size, world.rank, train.micro_batch, train.batch_size) for batch in batches
        ]
        # The student's own texts need its newest weights, so only the data's batches are looked ahead to.
        own = [self._writes(state.step + n) for n in range(len(steps))]
        ahead = self._stream.pair(
            self._batch(self._chosen, part)
            for parts, written in zip(steps, own, strict=True)
            for part in parts
            if len(part) and not written
        )
        for batch, parts, written in zip(batches, steps, own, strict=True):
            begin = time.perf_counter()
            if state.start_loss is None:
                state.start_penalty = self._penalty() or 0.0
            lr = learning_rate(train, state.step, self.total)
            if written:
                paired, positions = self._write(parts, state.step)
            else:
                paired, positions = ahead, int(self._examples.positions(self._chosen.rows[batch]).sum())
            positions = max(1, positions)
            moved = self._losses.at(state.step / self.total)
            sums = torch.zeros(1 + len(self._terms))
            for micro, part in enumerate(parts):
                torch.manual_seed(self._noise(state.step, micro))
                sums += self._learn(next(paired) if len(part) else None, positions, lr)
            loss, *parts_of_loss = (world.sum(sums) / positions).tolist()
            if not math.isfinite(loss) and self._penalty() is not None:
                raise self._diverged(f"the loss is {loss} at step {state.step}")
            if not math.isfinite(loss):
                raise TrainError(
                    f"{self._training.run}: the loss is {loss} at step {state.step}",
                    fix="lower train.lr, set train.clip, or train in fp32",
                )
            if state.start_loss is None:
                state.start_loss = loss
            state.step += 1
            state.seconds += time.perf_counter() - begin
            point = {
                "step": state.step,
                "epoch": epoch,
                "loss": loss,
                "parts": {term.name: part for term, part in zip(self._terms, parts_of_loss, strict=True)},
                "lr": lr,
            }
            yield {**point, "schedules": moved} if moved else point

    def _writes(self, step: int) -> bool:
        return self._rollout is not None and self._rollout.chosen(step)

    def _write(self, parts: list[NDArray[np.int64]], step: int) -> tuple[Iterator[Pair], int]:
        """The student's own texts for this step, scored, and their positions over all workers. Collective."""
        assert self._rollout is not None
        texts = []
        with self._engine.writing():
            for micro, part in enumerate(parts):
                torch.manual_seed(self._noise(step, len(parts) + micro))
                if len(part):
                    texts.append(self._rollout.write(self._engine, self._batch(self._chosen, part)))
        count = self._world.sum(torch.tensor([float(sum(int(t.positions_B.sum()) for t in texts))]))
        return self._stream.pair(texts), int(count.item())

    def _learn(self, pair: Pair | None, positions: int, lr: float) -> Tensor:
        """One micro-batch of a global batch with so many positions.

        Returns the sums over its positions: the loss, then each term.
        """
        if pair is None:
            # Every worker must take part in each backward, also one without rows in a short batch.
            held = self._engine.penalty() if self._training.increment else None
            self._engine.learn(self._idle() if held is None else self._idle() + held, lr)
            return torch.zeros(1 + len(self._terms))
        batch, packets = pair
        losses = self._losses.per_term(self._engine.forward(batch), batch, packets)
        total_P = torch.stack(
            [term.weight * loss_P for term, loss_P in zip(self._terms, losses, strict=True)]
        ).sum(0)
        # DeepSpeed divides by the accumulation steps and averages over workers: undo both.
        scale = self._training.train.accumulation * self._world.size / positions
        held = self._engine.penalty() if self._training.increment else None
        total = total_P.sum() * scale
        self._engine.learn(total if held is None else total + held, lr)
        return torch.stack([total_P.sum(), *[loss_P.sum() for loss_P in losses]]).detach().float().cpu()

    def _judge(
        self, point: dict[str, Any], state: TrainState, best: dict[str, Tensor] | None
    ) -> tuple[dict[str, Any], dict[str, Tensor] | None]:
        """Evaluate; with early stopping, keep the best weights and count the evaluations since."""
        if not len(self._validation):
            return point, best
        found = self.evaluate()
        point = {**point, "accuracy": found.accuracy, "validation_loss": found.loss}
        if found.fidelity is not None:
            point["fidelity"] = found.fidelity
        stop = self._training.train.early_stop
        if stop is None:
            return point, best
        score = found.accuracy if stop.metric == "accuracy" else -found.loss
        if state.best is None or score > state.best + stop.min_delta:
            state.best, state.stale = score, 0
            best = self._engine.weights()
        else:
            state.stale += 1
            state.stopped_early = state.stale >= stop.patience
        return point, best

    @torch.no_grad()
    def evaluate(self) -> Evaluation:
        """Accuracy and cross-entropy a position on the labelled validation rows. Collective."""
        parts = self._parts(self._validation)
        batches = (self._batch(self._validation, part) for part in parts if len(part))
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
        return Evaluation(loss / count, right / count, int(count), far / places if self._follow else None)

    @torch.no_grad()
    def _watch_old(self, state: TrainState) -> None:
        """Keep the accuracy of the watched rows by slice. Collective."""
        rows = self._watched.rows
        if not len(rows):
            return
        slices = np.array(self._examples.slices(rows))
        names = list(dict.fromkeys(slices.tolist()))
        right = torch.zeros(len(names), dtype=torch.float64)
        self._engine.train(False)
        for part in self._parts(self._watched):
            if not len(part):
                self._idle()
                continue
            batch = self._batch(self._watched, part)
            logits_PV, labels_P = self._answers(batch)
            right_P = (logits_PV.argmax(-1) == labels_P).double()
            for n, name in enumerate(names):
                right[n] += right_P[torch.from_numpy(slices[part] == name)].sum()
        self._engine.train()
        shares = (self._world.sum(right) / torch.tensor([(slices == name).sum() for name in names])).tolist()
        state.kept.append({"step": state.step, "accuracy": dict(zip(names, shares, strict=True))})

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

    def _idle(self) -> Tensor:
        """A loss of 0 that every weight takes part in."""
        batch = self._batch(self._chosen, np.zeros(1, np.int64))
        total: Tensor = (
            self._losses.task.student(self._engine.forward(batch), batch).logits_PV.float().sum() * 0.0
        )
        return total

    def _batch(self, chosen: Selection, positions: NDArray[np.int64]) -> Batch:
        return self._examples.batch(chosen.rows[positions], chosen.labelled[positions], self._pad_id)

    def _labelled(self, selection: Selection) -> Selection:
        return Selection(selection.rows[selection.labelled], selection.labelled[selection.labelled])

    def _noise(self, step: int, micro: int) -> int:
        """Seed of dropout: a function of where the training stands, so no generator state is kept."""
        words = np.random.SeedSequence([self._training.seed, step, micro, self._world.rank])
        return int(words.generate_state(1, np.uint64)[0] >> 1)


def batch_plan(training: Training, examples: Examples, chosen: Selection) -> BatchPlan:
    """Which rows of the selection stand together in a step: in an update, new ones among replayed ones."""
    lengths, size = examples.lengths(chosen.rows), training.train.batch_size
    increment = training.increment
    if increment is None:
        return BatchPlan(lengths, size, training.seed)
    replayed = np.isin(np.array(examples.sources_of(chosen.rows)), increment.replayed)
    if replayed.all():
        raise TrainError(f"{training.run}: no new rows to train on", fix="check --data and its splits")
    return ReplayPlan(lengths, size, training.seed, replayed, increment.share)


def _rollout(training: Training, pad_id: int, end_id: int | None) -> Rollout | None:
    if training.on_policy is None:
        return None
    own_prompts = bool(getattr(training.task, "completion_only", False))
    return Rollout(training.on_policy, training.seed, pad_id, end_id, own_prompts)
