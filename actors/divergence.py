"""Sees when an explicit penalty takes over a training, before a checkpoint of it is kept."""

from __future__ import annotations

import math

from actors.engine import Engine
from actors.training import Training, TrainState
from actors.world import World
from tutelage.errors import DivergedError

WATCHED_STEPS = 10
"""An explicit penalty is looked at every so many steps."""
DIVERGED = 30.0
"""A penalty of so many times the first loss is no noise."""
PATIENCE = 2
"""So many looks later it must have come back."""


class PenaltyWatch:
    """The explicit penalty of an update; of any other training there is none."""

    def __init__(self, training: Training, engine: Engine, world: World) -> None:
        self._training, self._engine, self._world = training, engine, world

    def penalty(self) -> float | None:
        """What an explicit penalty is worth now, over all workers; None where none is. Collective."""
        part = self._engine.penalty_energy() if self._training.increment else None
        return None if part is None else float(self._world.sum(part.reshape(1)))

    def holds(self, state: TrainState, *, last: bool) -> bool:
        """False while an explicit penalty is worth far more than there was to gain. Collective.

        A step that descends on the sum of loss and penalty does not let the penalty exceed what the sum was
        before the first step. Under Adam all weights overshoot together at first and come back, so it is only
        an error when it stays: raises DivergedError then, and where the training ends with it.
        """
        penalty = self.penalty()
        if penalty is None or state.start_loss is None:
            return True
        if penalty <= 2 * state.start_penalty + DIVERGED * max(state.start_loss, 0.1):
            state.climbing = None
            return True
        if state.climbing is None:
            state.climbing = state.step
        if last or not math.isfinite(penalty) or state.step - state.climbing >= PATIENCE * WATCHED_STEPS:
            raise self.diverged(
                f"the penalty is {penalty:.3g} at step {state.step}, and the loss began with "
                f"{state.start_loss:.3g}"
            )
        return False

    def diverged(self, problem: str) -> DivergedError:
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
