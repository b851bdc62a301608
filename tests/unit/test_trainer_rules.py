"""What a training does besides learning: stopping, judging, refusing, its schedule and its curve.

Shapes: B batch, C classes, K teachers, N examples.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from actors.teacher import Teacher, TeacherSpec
from actors.training import TrainState, kept_accuracy, learning_rate
from actors.validation import Evaluation
from actors.world import World
from tests.unit.tolerances import SUMMED
from tests.unit.torch_engine import in_threads
from tests.unit.training_samples import SOFT, Tiny, opinion, session
from tutelage.config.data import Pick
from tutelage.config.objectives import KL
from tutelage.config.train import TrainConfig
from tutelage.data.examples import Examples
from tutelage.errors import TrainError

pytestmark = pytest.mark.unit


def scripted(
    monkeypatch: pytest.MonkeyPatch, one: Any, accuracies: list[float]
) -> list[dict[str, torch.Tensor]]:
    """Let the evaluations find these accuracies (the loss is 1 less); returns the weights at each of them."""
    seen: list[dict[str, torch.Tensor]] = []
    left = iter(accuracies)

    def evaluate() -> Evaluation:
        seen.append(one.engine.weights())
        accuracy = next(left)
        return Evaluation(1 - accuracy, accuracy, 10)

    monkeypatch.setattr(one.trainer, "evaluate", evaluate)
    return seen


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], value) for name, value in second.items())


# Early stop


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
def test_early_stop_gives_the_best_weights_after_patience_evaluations(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, metric: str
) -> None:
    """Evaluations at steps 2, 4, ...: the second is best, two more are not better, so step 8 is the last."""
    one = session(tiny, train={"evaluate_every": 2, "early_stop": {"metric": metric, "patience": 2}})
    seen = scripted(monkeypatch, one, [0.5, 0.7, 0.6, 0.7, 0.9])
    chosen = one.run()
    assert one.state.step == 8
    assert one.state.stopped_early
    assert len(seen) == 4
    assert same(chosen, seen[1])
    assert not same(chosen, one.engine.weights())
    state, best, _ = one.kept.checkpoints[-1]
    assert state.step == 8
    assert best is not None
    assert same(best, seen[1])


def test_a_change_below_min_delta_is_no_improvement(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    one = session(tiny, train={"evaluate_every": 1, "early_stop": {"patience": 1, "min_delta": 0.1}})
    scripted(monkeypatch, one, [0.5, 0.65, 0.7])
    one.run()
    assert one.state.step == 3
    assert one.state.best == 0.65


def test_a_training_that_stopped_early_is_not_gone_on_with(tiny: Tiny) -> None:
    one = session(tiny, train={"early_stop": {}})
    best = {"kept": torch.ones(1)}
    found = one.trainer.run(TrainState(step=4, best=0.9, stopped_early=True), best)
    assert found is best
    assert one.engine.steps == 0


def test_without_early_stop_the_last_weights_are_taken(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    one = session(tiny, train={"evaluate_every": 6})
    seen = scripted(monkeypatch, one, [0.9, 0.1])
    assert same(one.run(), seen[1])
    assert one.state.best is None


def test_early_stop_without_labelled_validation_rows_is_refused(tiny: Tiny) -> None:
    with pytest.raises(TrainError, match=r"early_stop watches accuracy, and no validation row has a label"):
        session(tiny, train={"early_stop": {}}, slices=["shop"])


# Steps


@pytest.mark.parametrize(("max_steps", "steps"), [(1, 1), (4, 4), (6, 6), (9, 9), (99, 12)])
def test_max_steps_ends_a_training_also_inside_an_epoch(tiny: Tiny, max_steps: int, steps: int) -> None:
    one = session(tiny, train={"max_steps": max_steps})
    one.run()
    assert one.engine.steps == one.state.step == steps
    assert [point["epoch"] for point in one.state.points] == [n // 6 for n in range(steps)]
    assert one.kept.progress_steps == list(range(1, steps + 1))
    assert "accuracy" in one.state.points[-1]
    assert one.kept.checkpoints[-1][0].step == steps
    assert one.engine.rates == [point["lr"] for point in one.state.points]


def test_checkpoints_and_evaluations_come_when_the_config_says(tiny: Tiny) -> None:
    one = session(tiny, train={"checkpoint_every": 5, "evaluate_every": 4})
    one.run()
    assert [state.step for state, _, _ in one.kept.checkpoints] == [5, 10, 12]
    assert [point["step"] for point in one.state.points if "accuracy" in point] == [4, 8, 12]


def test_without_labelled_validation_rows_nothing_is_judged(tiny: Tiny) -> None:
    one = session(tiny, slices=["shop"], train={"epochs": 1})
    one.run()
    assert [set(point) for point in one.state.points] == [{"step", "epoch", "loss", "parts", "lr"}] * 6


def test_the_curve_is_thinned_but_keeps_its_evaluations_and_its_end(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.trainer.LOGGED_STEPS", 3)
    one = session(tiny, train={"evaluate_every": 5})
    one.run()
    assert [point["step"] for point in one.state.points] == [4, 5, 8, 10, 12]


def test_the_loss_is_the_weighted_sum_of_its_parts(tiny: Tiny) -> None:
    one = session(tiny, teachers={"one": opinion}, objectives=SOFT, train={"epochs": 1})
    one.run()
    for point in one.state.points:
        assert point["loss"] == pytest.approx(point["parts"]["kl"] + 0.5 * point["parts"]["cross-entropy"])
        assert point["parts"]["kl"] > 0


def test_a_state_survives_its_way_through_a_checkpoint(tiny: Tiny) -> None:
    one = session(tiny, train={"early_stop": {}, "epochs": 1})
    one.run()
    assert one.state.best is not None
    assert TrainState(**json.loads(json.dumps(one.state.to_json()))) == one.state


# Refusals


@pytest.mark.parametrize("size", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_the_training_and_keeps_no_checkpoint(tiny: Tiny, size: float) -> None:
    one = session(tiny, train={"checkpoint_every": 1})
    moved = one.engine.move

    def move(lr: float) -> None:
        moved(lr)
        if one.engine.steps == 3:
            with torch.no_grad():
                one.engine.model.classifier.bias.fill_(size)

    one.engine.move = move  # type: ignore[method-assign]
    with pytest.raises(TrainError, match=r"tiny-run: the loss is nan at step 3") as caught:
        one.run()
    assert "lower lr" in caught.value.fix
    assert [state.step for state, _, _ in one.kept.checkpoints] == [1, 2, 3]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_gradient_that_is_no_number_on_one_worker_moves_no_weight_on_any(tiny: Tiny, workers: int) -> None:
    """The loss is a number; every worker ends with an error that names the step, the batch and its rows."""

    def work(world: World) -> tuple[str, list[str]]:
        one = session(tiny, world=world, train={"workers": workers})
        before: list[dict[str, torch.Tensor]] = []
        learned = one.engine.learn

        def learn(loss: torch.Tensor) -> None:
            learned(loss)
            if one.engine.steps == 2 and world.rank == workers - 1:
                before.append(one.engine.weights())
                one.engine.model.classifier.bias.grad[0] = float("nan")

        one.engine.learn = learn  # type: ignore[method-assign]
        with pytest.raises(TrainError, match=r"the gradient is not finite at step 2 \(batch 2 of") as caught:
            one.run()
        if before:
            assert same(one.engine.weights(), before[0])
        assert one.engine.steps == one.state.step == 2
        return caught.value.problem, list(one.state.points)

    found = in_threads(workers, work)
    assert len({problem for problem, _ in found}) == 1
    assert "of epoch 0: rows" in found[0][0]
    assert "books" in found[0][0] or "shop" in found[0][0]


def test_weights_that_the_last_step_makes_infinite_are_no_result(tiny: Tiny) -> None:
    """No loss comes after the last step, and none here of validation rows, so the weights are looked at."""
    one = session(tiny, slices=[], train={"max_steps": 2})
    moved = one.engine.move

    def move(lr: float) -> None:
        moved(lr)
        if one.engine.steps == 2:
            with torch.no_grad():
                one.engine.model.classifier.bias.fill_(float("inf"))

    one.engine.move = move  # type: ignore[method-assign]
    with pytest.raises(TrainError, match=r"the weight 'classifier.bias' is not finite"):
        one.run()


def test_a_validation_loss_that_is_no_number_keeps_no_checkpoint(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = session(tiny, train={"evaluate_every": 2, "checkpoint_every": 2})
    monkeypatch.setattr(one.trainer, "evaluate", lambda: Evaluation(float("nan"), 0.5, 10))
    with pytest.raises(TrainError, match="the loss on validation rows is nan after step 2"):
        one.run()
    assert one.kept.checkpoints == []


# What was kept, and how good it is


@pytest.mark.parametrize(("metric", "step", "accuracy"), [("accuracy", 4, 0.7), ("loss", 6, 0.6)])
def test_what_is_said_of_a_training_is_of_the_weights_that_it_kept(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, metric: str, step: int, accuracy: float
) -> None:
    """The run goes on to its end, which is worse than what it kept; so is the best by the other metric."""
    one = session(tiny, train={"evaluate_every": 2, "early_stop": {"metric": metric, "patience": 99}})
    seen: list[dict[str, torch.Tensor]] = []
    found = iter([(0.9, 0.5), (0.8, 0.7), (0.4, 0.6), (0.6, 0.65), (0.7, 0.1), (0.7, 0.2)])

    def evaluate() -> Evaluation:
        seen.append(one.engine.weights())
        loss, share = next(found)
        return Evaluation(loss, share, 10)

    monkeypatch.setattr(one.trainer, "evaluate", evaluate)
    weights = one.run()
    assert not one.state.stopped_early
    assert one.state.chosen is not None
    assert (one.state.chosen["step"], one.state.chosen["accuracy"]) == (step, accuracy)
    assert same(weights, seen[step // 2 - 1])
    assert kept_accuracy({"chosen": one.state.chosen}) == accuracy
    assert one.state.points[-1]["accuracy"] != accuracy


def test_without_early_stop_the_last_weights_are_kept_and_their_accuracy_said(tiny: Tiny) -> None:
    one = session(tiny, train={"evaluate_every": 4})
    one.run()
    assert one.state.chosen is not None
    assert one.state.chosen["step"] == one.state.step
    assert one.state.chosen["accuracy"] == one.state.points[-1]["accuracy"]
    assert one.state.chosen["examples"] == 10


@pytest.mark.parametrize("follow", [False, True])
def test_where_no_validation_row_has_a_label_no_accuracy_is_said(tiny: Tiny, follow: bool) -> None:
    """Neither 0.0 nor an error: rows without labels can still show how closely teachers are followed."""
    one = session(tiny, teachers={"t": opinion}, slices=["shop"], follow=follow, objectives=SOFT)
    one.run()
    chosen = one.state.chosen or {}
    assert "accuracy" not in chosen
    assert ("fidelity" in chosen) is follow
    assert kept_accuracy({"chosen": one.state.chosen}) is None
    assert all("accuracy" not in point for point in one.state.points)


def test_a_training_without_rows_is_refused(tiny: Tiny) -> None:
    with pytest.raises(TrainError, match="tiny-run: no rows to train on"):
        session(tiny, picks={})


# Evaluation


def test_an_evaluation_is_what_a_plain_loop_over_the_rows_finds(tiny: Tiny) -> None:
    one = session(tiny, train={"batch_size": 4})
    found = one.trainer.evaluate()
    examples, model = Examples.open(tiny.examples), tiny.model()
    chosen = examples.select("validation", sources=["books"])
    losses, right = [], []
    for row in chosen.rows:
        alone = examples.batch(np.array([row]), np.array([True]), 0)
        with torch.no_grad():
            logits_BC = model(
                torch.from_numpy(alone.input_ids_BT), torch.from_numpy(alone.attention_mask_BT)
            ).logits
        label = int(alone.labels_B[0])
        losses.append(-float(torch.log_softmax(logits_BC, -1)[0, label]))
        right.append(int(logits_BC.argmax()) == label)
    assert found.examples == len(chosen) == 10
    assert found.accuracy == np.mean(right)
    assert found.loss == pytest.approx(np.mean(losses), rel=SUMMED)


def test_only_the_rows_of_the_pick_are_learned_and_only_its_labels_are_used(tiny: Tiny) -> None:
    """With 8 rows and 2 labels, one batch: cross-entropy of two rows, over 8."""
    one = session(tiny, picks={"books": Pick(rows=8, labels=2)}, train={"epochs": 1})
    examples = Examples.open(tiny.examples)
    rows = examples.select("train", {"books": Pick(rows=2)})
    two = examples.batch(rows.rows, rows.labelled, 0)
    with torch.no_grad():
        logits_BC = tiny.model()(
            torch.from_numpy(two.input_ids_BT), torch.from_numpy(two.attention_mask_BT)
        ).logits
    expected = (
        torch.nn.functional.cross_entropy(logits_BC, torch.from_numpy(two.labels_B), reduction="sum") / 8
    )
    one.run()
    assert one.losses == [pytest.approx(float(expected), rel=SUMMED)]


# A teacher that is the student


def spec(tiny: Tiny, order: tuple[int, ...] = (0, 1)) -> TeacherSpec:
    return TeacherSpec("self", tiny.student, tiny.student, order, max_tokens=16, threads=1, fingerprint="-")


def test_a_teacher_that_is_the_student_gives_kl_0_and_no_gradient(tiny: Tiny) -> None:
    """The self-test of the whole path: text, tokenizer, stream, combiner, loss."""
    only: list[Any] = [KL(type="kl", temperature=2)]
    one = session(tiny, teachers={"self": Teacher(spec(tiny))}, objectives=only, train={"max_steps": 1})
    one.run()
    assert abs(one.losses[0]) < 1e-6
    assert one.engine.norms[0] < 1e-5


def test_a_teacher_whose_classes_are_taken_in_the_wrong_order_is_not_the_student(tiny: Tiny) -> None:
    """The self-test sees it."""
    only: list[Any] = [KL(type="kl", temperature=2)]
    wrong = session(
        tiny, teachers={"self": Teacher(spec(tiny, (1, 0)))}, objectives=only, train={"max_steps": 1}
    )
    wrong.run()
    assert wrong.losses[0] > 1e-2
    assert wrong.engine.norms[0] > 1e-2


# The learning rate


def section(**changes: Any) -> TrainConfig:
    return TrainConfig(lr=0.1, **changes)


def rates(total: int, **changes: Any) -> list[float]:
    return [learning_rate(section(**changes), step, total) for step in range(total)]


def test_linear_rises_over_the_warm_up_and_falls_towards_0() -> None:
    assert rates(10, warmup=0.2) == pytest.approx(
        [0.05, 0.1, 0.1, 0.0875, 0.075, 0.0625, 0.05, 0.0375, 0.025, 0.0125]
    )


def test_cosine_falls_by_half_a_wave() -> None:
    found = rates(9, warmup=0.1, lr_schedule="cosine")
    assert found[:2] == pytest.approx([0.1, 0.1])
    assert found[5] == pytest.approx(0.05)
    assert found[3] == pytest.approx(0.1 * 0.5 * (1 + 2**-0.5))
    assert found == sorted(found, reverse=True)


def test_constant_stays_at_the_top_after_the_warm_up() -> None:
    assert rates(8, warmup=0.5, lr_schedule="constant") == pytest.approx([0.025, 0.05, 0.075] + [0.1] * 5)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("total", [1, 2, 7, 100])
def test_every_step_of_every_schedule_learns_at_most_at_lr(schedule: Any, warmup: float, total: int) -> None:
    found = rates(total, warmup=warmup, lr_schedule=schedule)
    assert all(0 < rate <= 0.1 for rate in found)
    assert max(found) == pytest.approx(0.1)
