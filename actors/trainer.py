"""The training loop: the same for a teacher and for the student, on any number of workers.

    for each batch: signals from the stream -> loss terms -> DeepSpeed backward and step

The loss of a step is the sum over the positions of the global batch divided by their number. Shapes:
B batch, T tokens, P positions of a micro-batch, V classes or vocabulary, K teachers, N examples.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actors.divergence import WATCHED_STEPS, PenaltyWatch
from actors.engine import Engine
from actors.losses import Losses
from actors.rollout import Rollout
from actors.stream import Pair, SignalStream
from actors.training import Training, TrainState, learning_rate
from actors.validation import Evaluation, Validation
from actors.world import World
from tutelage.data.batches import BatchPlan, ReplayPlan, shard
from tutelage.data.examples import Batch, Examples, Selection
from tutelage.errors import TrainError

LOGGED_STEPS = 2000
"""About this many steps of a training are kept as points of its curve."""


class Keeper(Protocol):
    """Where a training says how it goes, and leaves its checkpoints."""

    def progress(self, state: TrainState, total: int) -> None:
        """Called after every step on every worker."""

    def checkpoint(self, state: TrainState, best: dict[str, Tensor] | None) -> None:
        """Called on every worker; keeps engine, state and best weights together."""


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
        self._validation = Validation(
            training, engine, examples, stream, world, self._losses, pad_id, self._idle, follow=follow
        )
        self._held = PenaltyWatch(training, engine, world)
        if train.early_stop and not self._validation.labelled:
            raise TrainError(
                f"{training.run}: train.early_stop watches {train.early_stop.metric}, "
                "and no validation row has a label",
                fix="label some validation rows, or remove train.early_stop",
            )

    def run(self, state: TrainState, best: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Train from `state` (changed in place) to the end; returns the chosen weights, fp32 on CPU.

        `state.chosen` says what was measured of them. Raises TrainError when a loss, a gradient or a weight
        is no longer a number, DivergedError when a penalty takes over.
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
                    keeps = self._held.holds(state, last=last or state.stopped_early) and keeps
                self._keeper.progress(state, self.total)
                if keeps:
                    self._share_signals()
                    self._keeper.checkpoint(state, best)
                if state.stopped_early:
                    break
        weights = best if train.early_stop and best is not None else self._engine.weights()
        check_weights(self._training.run, weights)
        return weights

    def evaluate(self) -> Evaluation:
        """The student on the validation rows. Collective."""
        return self._validation.evaluate()

    def _watch_old(self, state: TrainState) -> None:
        found = self._validation.watched()
        if found:
            state.kept.append({"step": state.step, "accuracy": found})

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
                # Without a penalty there is none at the start either.
                state.start_penalty = self._held.penalty() or 0.0
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
                sums += self._learn(next(paired) if len(part) else None, positions)
            loss, *parts_of_loss = self._agreed(sums, positions, batch, state)
            self._engine.move(lr)
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

    def _agreed(
        self, sums: Tensor, positions: int, batch: NDArray[np.int64], state: TrainState
    ) -> list[float]:
        """The loss of a step and its terms, over all workers, before a weight is moved. Collective.

        Raises TrainError, on every worker, where the loss or any worker's part of the gradient is no number.
        """
        unsound = torch.tensor([0.0 if self._engine.sound() else 1.0])
        total = self._world.sum(torch.cat([sums, unsound]))
        losses: list[float] = (total[:-1] / positions).tolist()
        if math.isfinite(losses[0]) and not total[-1]:
            return losses
        what = "the gradient is not finite" if math.isfinite(losses[0]) else f"the loss is {losses[0]}"
        if self._held.penalty() is not None:
            raise self._held.diverged(f"{what} at step {state.step}")
        epoch, number = divmod(state.step, self._plan.steps_per_epoch)
        sources = Counter(self._examples.sources_of(self._chosen.rows[batch]))
        rows = ", ".join(f"{count} of {name}" for name, count in sources.items())
        raise _not_finite(
            f"{self._training.run}: {what} at step {state.step} (batch {number} of epoch {epoch}: rows "
            f"{rows}); no weight was moved by it"
        )

    def _learn(self, pair: Pair | None, positions: int) -> Tensor:
        """One micro-batch of a global batch with so many positions.

        Returns the sums over its positions: the loss, then each term.
        """
        if pair is None:
            # Every worker must take part in each backward, also one without rows in a short batch.
            held = self._engine.penalty() if self._training.increment else None
            self._engine.learn(self._idle() if held is None else self._idle() + held)
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
        self._engine.learn(total if held is None else total + held)
        return torch.stack([total_P.sum(), *[loss_P.sum() for loss_P in losses]]).detach().float().cpu()

    def _judge(
        self, point: dict[str, Any], state: TrainState, best: dict[str, Tensor] | None
    ) -> tuple[dict[str, Any], dict[str, Tensor] | None]:
        """Evaluate; with early stopping, keep the best weights and count the evaluations since."""
        if not len(self._validation):
            return point, best
        found = self.evaluate()
        if not found.finite:
            raise _not_finite(
                f"{self._training.run}: the loss on validation rows is {found.loss} after step {state.step}"
            )
        point = {**point, **found.to_json()}
        measured = {"step": state.step, "examples": found.examples, **found.to_json()}
        stop = self._training.train.early_stop
        if stop is None:
            state.chosen = measured
            return point, best
        score = found.accuracy if stop.metric == "accuracy" else found.loss
        if score is None:
            return point, best
        score = score if stop.metric == "accuracy" else -score
        if state.best is None or score > state.best + stop.min_delta:
            state.best, state.stale, state.chosen = score, 0, measured
            best = self._engine.weights()
        else:
            state.stale += 1
            state.stopped_early = state.stale >= stop.patience
        return point, best

    def _idle(self) -> Tensor:
        """A loss of 0 that every weight takes part in."""
        batch = self._batch(self._chosen, np.zeros(1, np.int64))
        total: Tensor = (
            self._losses.task.student(self._engine.forward(batch), batch).logits_PV.float().sum() * 0.0
        )
        return total

    def _batch(self, chosen: Selection, positions: NDArray[np.int64]) -> Batch:
        return self._examples.batch(chosen.rows[positions], chosen.labelled[positions], self._pad_id)

    def _noise(self, step: int, micro: int) -> int:
        """Seed of dropout: a function of where the training stands, so no generator state is kept."""
        words = np.random.SeedSequence([self._training.seed, step, micro, self._world.rank])
        return int(words.generate_state(1, np.uint64)[0] >> 1)


def check_weights(run: str, weights: dict[str, Tensor]) -> None:
    """Raise TrainError for weights that the last step has made infinite: no loss was there to show it."""
    for name, value in weights.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise _not_finite(f"{run}: the weight '{name}' is not finite after the last step")


def _not_finite(problem: str) -> TrainError:
    fix = "in the train section of this training lower lr, set clip, or set precision to fp32"
    return TrainError(problem, fix=fix)


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
