"""How closely a student follows its teachers, measured on the validation rows.

Shapes: B batch, C classes, K teachers.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tests.unit.tolerances import SUMMED
from tests.unit.training_samples import SOFT, Tiny, opinion, session
from tutelage.config.objectives import KL, Confidence
from tutelage.data.examples import Examples

pytestmark = pytest.mark.unit


def flat(text: str) -> list[float]:
    return [0.3, -0.3]


def distance(tiny: Tiny, **changes: Any) -> float:
    found = session(tiny, teachers={"one": opinion, "two": flat}, objectives=SOFT, follow=True, **changes)
    fidelity = found.trainer.evaluate().fidelity
    assert fidelity is not None
    return fidelity


def test_it_is_the_kl_from_the_mean_of_the_teachers_over_all_validation_rows(tiny: Tiny) -> None:
    """Rows without a label count too: 20 of them, of which 10 have one."""
    examples, model = Examples.open(tiny.examples), tiny.model()
    chosen = examples.select("validation")
    assert len(chosen) == 20
    rows = examples.batch(chosen.rows, chosen.labelled, 0)
    with torch.no_grad():
        student_BC = model(
            torch.from_numpy(rows.input_ids_BT), torch.from_numpy(rows.attention_mask_BT)
        ).logits
    texts = examples.texts(chosen.rows)
    teachers_KBC = torch.tensor([[tell(text) for text in texts] for tell in (opinion, flat)])
    target_BC = torch.softmax(teachers_KBC, -1).mean(0)
    expected = F.kl_div(torch.log_softmax(student_BC, -1), target_BC, reduction="sum") / len(texts)
    assert distance(tiny) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"objectives": [KL(type="kl", temperature=7, weight=3)]},
        {"combiner": Confidence(type="confidence", sharpness=50)},
        {"train": {"batch_size": 16, "micro_batch_size": 4}},
    ],
    ids=["objectives", "combiner", "batch"],
)
def test_it_means_the_same_whatever_the_student_learns_by(tiny: Tiny, changes: dict[str, Any]) -> None:
    given = {"objectives": SOFT, **changes}
    found = session(tiny, teachers={"one": opinion, "two": flat}, follow=True, **given)
    assert found.trainer.evaluate().fidelity == pytest.approx(distance(tiny), rel=SUMMED)


def test_it_changes_neither_training_nor_accuracy_and_stands_in_the_curve(tiny: Tiny) -> None:
    teachers = {"one": opinion, "two": flat}
    one, other = (
        session(tiny, teachers=teachers, objectives=SOFT, follow=follow) for follow in (False, True)
    )
    alone, followed = one.run(), other.run()
    assert all(torch.equal(alone[name], followed[name]) for name in alone)
    judged = [point for point in other.state.points if "accuracy" in point]
    assert [p["accuracy"] for p in judged] == [p["accuracy"] for p in one.state.points if "accuracy" in p]
    assert judged[-1]["fidelity"] < judged[0]["fidelity"]
    assert not any("fidelity" in point for point in one.state.points)
