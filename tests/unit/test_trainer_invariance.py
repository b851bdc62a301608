"""A training gives the same numbers however its batches are cut, and wherever it was interrupted.

Shapes: B batch, C classes, N examples.
"""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from actors.trainer import Trainer
from tests.unit.tolerances import SUMMED
from tests.unit.torch_engine import ThreadWorld, in_threads
from tests.unit.training_samples import HARD, SOFT, TRAIN_ROWS, Session, Tiny, opinion, session
from tutelage.config.objectives import Confidence
from tutelage.config.runtime import StreamConfig
from tutelage.signals.store import ArrowStore

pytestmark = pytest.mark.unit

TEACHERS: dict[str, Any] = {"one": opinion, "two": lambda text: opinion(text, 0.5)}
STEPS = 2 * 6  # ceil(43 / 8) an epoch


def soft(tiny: Tiny, **changes: Any) -> Session:
    """Distillation from two teachers, with some hard labels."""
    combiner = Confidence(type="confidence")
    return session(tiny, **({"teachers": TEACHERS, "objectives": SOFT, "combiner": combiner} | changes))


@cache
def plain(tiny: Tiny) -> Session:
    """The training that others are compared with: one worker, whole batches."""
    one = soft(tiny)
    one.run()
    return one


@pytest.mark.parametrize("micro", [4, 2, 1])
def test_the_loss_trajectory_does_not_depend_on_the_micro_batch_size(tiny: Tiny, micro: int) -> None:
    """Batches of 8, the last of 3: losses and gradient norms agree to 1e-6, relative, over 12 steps."""
    whole, cut = plain(tiny), soft(tiny, train={"micro_batch_size": micro})
    cut.run()
    assert len(whole.losses) == STEPS
    assert cut.losses == pytest.approx(whole.losses, rel=SUMMED)
    assert cut.engine.norms == pytest.approx(whole.engine.norms, rel=SUMMED)
    assert whole.losses[-1] < 0.8 * whole.losses[0]


@pytest.mark.parametrize(("workers", "micro"), [(2, None), (2, 2), (4, None)])
def test_the_loss_trajectory_does_not_depend_on_the_number_of_workers(
    tiny: Tiny, tmp_path: Path, workers: int, micro: int | None
) -> None:
    """Threads as workers; the short batch of 3 leaves one of four without a row. Same bound as above.

    Their signals are in one folder: no example is asked of a teacher twice, whoever reads it in epoch 2.
    """
    alone = plain(tiny)

    def work(world: ThreadWorld) -> Session:
        stores: dict[str, Any] = {name: ArrowStore(tmp_path / name) for name in TEACHERS}
        train = {"workers": workers, "micro_batch_size": micro}
        one = soft(tiny, world=world, stores=stores, train=train)
        one.run()
        return one

    ranks = in_threads(workers, work)
    for rank in ranks:
        assert rank.losses == pytest.approx(alone.losses, rel=SUMMED)
        assert rank.engine.norms == pytest.approx(alone.engine.norms, rel=SUMMED)
        accuracy = [[point.get("accuracy") for point in one.state.points] for one in (rank, alone)]
        assert accuracy[0] == accuracy[1]
        for name, value in ranks[0].engine.weights().items():
            assert torch.equal(rank.engine.weights()[name], value)
    for k in range(len(TEACHERS)):
        assert sum(one.stream.channels[k].counters.examples for one in ranks) == TRAIN_ROWS


def test_every_worker_tells_of_each_step_and_keeps_its_checkpoint(tiny: Tiny) -> None:
    """Each has teachers of its own to tell of."""

    def work(world: ThreadWorld) -> Session:
        one = session(tiny, world=world, train={"workers": 2, "epochs": 1})
        one.run()
        return one

    first, second = in_threads(2, work)
    assert first.kept.progress_steps == second.kept.progress_steps == [1, 2, 3, 4, 5, 6]
    assert len(first.kept.checkpoints) == len(second.kept.checkpoints) == 1


@cache
def uninterrupted(tiny: Tiny, dropout: float) -> Session:
    """A training that keeps a checkpoint after each step; an evaluation every 5 steps."""
    train = {"checkpoint_every": 1, "evaluate_every": 5, "early_stop": {"patience": 50, "metric": "loss"}}
    whole = soft(tiny, dropout=dropout, train=train)
    whole.best = whole.run()  # type: ignore[attr-defined]
    return whole


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("step", [1, 5, 6, 12])
def test_a_resumed_training_gives_the_bit_identical_rest(tiny: Tiny, step: int, dropout: float) -> None:
    """From a state after any step, around evaluations and epochs: losses, weights, best weights."""
    whole = uninterrupted(tiny, dropout)
    state, best, engine_state = whole.kept.checkpoints[step - 1]
    assert state.step == step
    train = {"checkpoint_every": 1, "evaluate_every": 5, "early_stop": {"patience": 50, "metric": "loss"}}
    again = soft(tiny, dropout=dropout, train=train)
    again.engine.take_up(engine_state)
    again.state = copy.deepcopy(state)
    chosen = again.trainer.run(again.state, copy.deepcopy(best))
    without_time = [copy.copy(one.state) for one in (whole, again)]
    for one in without_time:
        one.seconds = 0.0
    assert without_time[0] == without_time[1]
    assert all(torch.equal(chosen[name], value) for name, value in whole.best.items())  # type: ignore[attr-defined]
    final = whole.engine.weights()
    assert all(torch.equal(again.engine.weights()[name], value) for name, value in final.items())


def test_dropout_is_on_in_every_training_pass_and_off_in_every_evaluation(tiny: Tiny) -> None:
    """Also before the first evaluation: models are loaded in evaluation mode."""
    one = session(tiny, dropout=0.3, train={"epochs": 1, "evaluate_every": 3})
    one.run()
    evaluation = [False, False]  # 10 labelled validation rows in batches of 8
    assert one.engine.modes == [True] * 3 + evaluation + [True] * 3 + evaluation


def test_dropout_depends_on_the_step_and_not_on_what_ran_before(tiny: Tiny) -> None:
    first, second = session(tiny, dropout=0.3), session(tiny, dropout=0.3)
    torch.manual_seed(1)
    first.run()
    torch.manual_seed(2)
    second.run()
    assert first.losses == second.losses
    assert session_losses(tiny, dropout=0.0) != first.losses
    assert session_losses(tiny, dropout=0.3, seed=6) != first.losses


def session_losses(tiny: Tiny, **changes: Any) -> list[float]:
    one = session(tiny, **changes)
    one.run()
    return one.losses


def test_cold_and_warm_signals_give_the_bit_identical_training(tiny: Tiny) -> None:
    cold = plain(tiny)
    kept: dict[str, Any] = cold.stream._stores
    warm = soft(tiny, stores=kept)
    warm.run()
    assert warm.losses == cold.losses
    assert all(torch.equal(warm.engine.weights()[n], value) for n, value in cold.engine.weights().items())
    assert [channel.counters.calls for channel in warm.stream.channels] == [0, 0]
    assert [channel.counters.calls for channel in cold.stream.channels] == [6, 6]  # the second epoch: store


def test_the_window_of_the_stream_does_not_change_the_training(tiny: Tiny) -> None:
    found = [
        session_losses(tiny, teachers=TEACHERS, objectives=SOFT, stream=StreamConfig(window=n))
        for n in (1, 9)
    ]
    assert found[0] == found[1]


def test_one_step_moves_the_weights_as_a_plain_loop_does(tiny: Tiny) -> None:
    """Cross-entropy of the labelled rows, summed and divided by the whole batch; clip; AdamW."""
    one = session(tiny, objectives=HARD, train={"max_steps": 1, "clip": 0.5, "warmup": 0.0})
    one.run()
    trainer: Trainer = one.trainer
    examples = trainer._examples
    batch = trainer._plan.epoch(0)[0]
    chosen = examples.select("train")
    rows = examples.batch(chosen.rows[batch], chosen.labelled[batch], 0)
    model = tiny.model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    logits_BC = model(torch.from_numpy(rows.input_ids_BT), torch.from_numpy(rows.attention_mask_BT)).logits
    labels_B = torch.from_numpy(rows.labels_B)
    loss = torch.nn.functional.cross_entropy(logits_BC, labels_B, ignore_index=-1, reduction="sum") / 8
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    optimizer.step()
    assert one.losses == [pytest.approx(loss.item(), rel=SUMMED)]
    assert one.engine.norms == [pytest.approx(norm.item(), rel=SUMMED)]
    assert np.count_nonzero(rows.labels_B == -1) > 0
    for name, value in model.state_dict().items():
        torch.testing.assert_close(one.engine.weights()[name], value, rtol=1e-5, atol=1e-6)
