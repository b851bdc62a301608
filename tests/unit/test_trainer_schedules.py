"""Weights and temperatures that follow a schedule: what each step minimises, cut and interrupted.

Shapes: B batch, C classes.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from actors.losses import Losses
from tests.unit.tolerances import SUMMED
from tests.unit.torch_engine import ThreadWorld, in_threads
from tests.unit.training_samples import SOFT, Session, Tiny, opinion, session, training
from tutelage.config.objectives import JSD, KL, CrossEntropy
from tutelage.config.schedule import Cosine, Exponential, Linear, Step
from tutelage.data.examples import Examples
from tutelage.objectives import Schedules, build_terms

pytestmark = pytest.mark.unit

STEPS = 2 * 6
MOVING: list[Any] = [
    KL(
        type="kl",
        weight=Step(type="step", values=[1, 0.25], at=[0.5]),
        temperature=Exponential(type="exponential", start=4, end=1, until=0.75),
    ),
    CrossEntropy(type="cross-entropy", weight=Linear(type="linear", start=0, end=1)),
]


def moving(tiny: Tiny, **changes: Any) -> Session:
    return session(tiny, **({"teachers": {"one": opinion}, "objectives": MOVING} | changes))


def ran(one: Session) -> Session:
    one.run()
    return one


def values(step: int) -> tuple[float, float, float]:
    """Temperature and weight of kl, and weight of cross-entropy, in step `step` of 12."""
    progress = step / STEPS
    return 4 ** (1 - min(1.0, progress / 0.75)), 1 if progress < 0.5 else 0.25, progress


def test_each_step_minimises_the_sum_at_its_own_progress(tiny: Tiny) -> None:
    """A plain loop beside the trainer: the same batches, the two formulae, AdamW."""
    one = ran(moving(tiny))
    trainer, examples, model = one.trainer, Examples.open(tiny.examples), tiny.model()
    chosen = examples.select("train")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    expected = []
    for step, batch in enumerate([*trainer._plan.epoch(0), *trainer._plan.epoch(1)]):
        temperature, soft, hard = values(step)
        rows = examples.batch(chosen.rows[batch], chosen.labelled[batch], 0)
        student_BC = model(
            torch.from_numpy(rows.input_ids_BT), torch.from_numpy(rows.attention_mask_BT)
        ).logits
        teacher_BC = torch.tensor([opinion(text) for text in examples.texts(chosen.rows[batch])])
        kl = F.kl_div(
            torch.log_softmax(student_BC / temperature, -1),
            torch.softmax(teacher_BC / temperature, -1),
            reduction="sum",
        )
        labels_B = torch.from_numpy(rows.labels_B)
        entropy = F.cross_entropy(student_BC, labels_B, ignore_index=-1, reduction="sum")
        loss = (soft * temperature**2 * kl + hard * entropy) / len(batch)
        expected.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = one.engine.rates[step]
        optimizer.step()
    assert one.losses == pytest.approx(expected, rel=1e-5)


def test_the_curve_carries_what_changes_and_nothing_of_what_does_not(tiny: Tiny) -> None:
    for step, point in enumerate(ran(moving(tiny)).state.points):
        temperature, soft, hard = values(step)
        assert point["schedules"] == {
            "kl.weight": soft,
            "kl.temperature": pytest.approx(temperature),
            "cross-entropy.weight": pytest.approx(hard),
        }
    plain = ran(session(tiny, teachers={"one": opinion}, objectives=SOFT, train={"max_steps": 2}))
    assert all("schedules" not in point for point in plain.state.points)


def test_a_level_schedule_trains_as_its_number_does_to_the_last_bit(tiny: Tiny) -> None:
    level: list[Any] = [
        KL(type="kl", temperature=Cosine(type="cosine", start=2, end=2)),
        CrossEntropy(type="cross-entropy", weight=Linear(type="linear", start=0.5, end=0.5)),
    ]
    one, other = ran(moving(tiny, objectives=level)), ran(moving(tiny, objectives=SOFT))
    for found in (one.state, other.state):
        found.seconds = 0.0
    assert one.state == other.state
    assert all(torch.equal(one.engine.weights()[n], value) for n, value in other.engine.weights().items())


@pytest.mark.parametrize("step", [1, 6, 7, 11])
def test_a_resumed_training_takes_its_schedules_up_where_they_were(tiny: Tiny, step: int) -> None:
    train = {"checkpoint_every": 1}
    whole = ran(moving(tiny, train=train))
    state, _, engine_state = whole.kept.checkpoints[step - 1]
    again = moving(tiny, train=train)
    again.engine.take_up(engine_state)
    again.state = copy.deepcopy(state)
    again.run()
    whole.state.seconds = again.state.seconds = 0.0
    assert again.state == whole.state
    assert all(torch.equal(again.engine.weights()[n], value) for n, value in whole.engine.weights().items())


@pytest.mark.parametrize("micro", [4, 1])
def test_micro_batches_of_a_step_share_its_values(tiny: Tiny, micro: int) -> None:
    whole, cut = ran(moving(tiny)), ran(moving(tiny, train={"micro_batch_size": micro}))
    assert cut.losses == pytest.approx(whole.losses, rel=SUMMED)
    assert cut.engine.norms == pytest.approx(whole.engine.norms, rel=SUMMED)


def test_workers_of_a_step_share_its_values(tiny: Tiny) -> None:
    def work(world: ThreadWorld) -> Session:
        return ran(moving(tiny, world=world, train={"workers": 2}))

    alone = ran(moving(tiny))
    for rank in in_threads(2, work):
        assert rank.losses == pytest.approx(alone.losses, rel=SUMMED)
        assert [p["schedules"] for p in rank.state.points] == [p["schedules"] for p in alone.state.points]


def test_a_step_in_which_all_weights_are_0_has_loss_0_and_still_says_its_parts(tiny: Tiny) -> None:
    only: list[Any] = [KL(type="kl", weight=Linear(type="linear", start=0, end=1))]
    one = ran(moving(tiny, objectives=only))
    assert one.losses[0] == one.engine.norms[0] == 0.0
    assert one.state.points[0]["parts"]["kl"] > 0
    assert all(loss > 0 for loss in one.losses[1:])


def test_terms_begin_as_at_the_first_step_and_those_that_never_weigh_are_left_out() -> None:
    sections: list[Any] = [
        JSD(type="jsd", weight=Linear(type="linear", start=0, end=0)),
        KL(type="kl", weight=Linear(type="linear", start=0, end=2)),
        CrossEntropy(type="cross-entropy", weight=0.5),
    ]
    terms = build_terms(sections)
    assert [(term.name, term.weight) for term in terms] == [("kl", 0.0), ("cross-entropy", 0.5)]
    assert Schedules(terms, sections).at(0.25) == {"kl.weight": 0.5}
    assert [term.weight for term in terms] == [0.5, 0.5]


def test_the_values_depend_on_the_progress_alone(tiny: Tiny) -> None:
    losses = Losses(training(tiny, objectives=MOVING), Examples.open(tiny.examples), lambda _: None)  # type: ignore[arg-type, return-value]
    first = losses.at(0.3)
    losses.at(0.9)
    assert losses.at(0.3) == first
