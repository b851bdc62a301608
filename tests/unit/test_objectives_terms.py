"""Every loss term keeps one contract, and each has the values and gradients of its formula.

Shapes: B batch, C classes, K teachers.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tutelage.config.objectives import KL, CrossEntropy
from tutelage.objectives import Evidence, Term, build_terms, mixture

pytestmark = pytest.mark.unit

TERMS: dict[str, Any] = {
    "cross-entropy": CrossEntropy(type="cross-entropy"),
    "cross-entropy, smoothed": CrossEntropy(type="cross-entropy", label_smoothing=0.2, weight=0.5),
    "kl": KL(type="kl"),
    "kl, T=1": KL(type="kl", temperature=1),
    "kl, T=100": KL(type="kl", temperature=100),
    "kl, T=0.01": KL(type="kl", temperature=0.01),
}


def term(name: str) -> Term:
    (built,) = build_terms([TERMS[name]])
    return built


def evidence(batch: int = 6, classes: int = 3, teachers: int = 2, seed: int = 0) -> Evidence:
    """Random logits and column weights; every third example is unlabelled."""
    generator = torch.Generator().manual_seed(seed)
    labels_B = torch.randint(0, classes, (batch,), generator=generator)
    labels_B[::3] = -1
    return Evidence(
        student_BC=3 * torch.randn(batch, classes, generator=generator),
        labels_B=labels_B,
        teachers_KBC=3 * torch.randn(teachers, batch, classes, generator=generator),
        weights_KB=torch.softmax(torch.randn(teachers, batch, generator=generator), dim=0),
    )


def part(whole: Evidence, rows: slice) -> Evidence:
    """The same examples alone."""
    assert whole.teachers_KBC is not None
    assert whole.weights_KB is not None
    return Evidence(
        whole.student_BC[rows],
        whole.labels_B[rows],
        whole.teachers_KBC[:, rows],
        whole.weights_KB[:, rows],
    )


def gradient(one: Term, given_: Evidence) -> tuple[Tensor, Tensor]:
    """Loss of each example, and the gradient of their sum for the student's logits."""
    student_BC = given_.student_BC.clone().requires_grad_()
    loss_B = one.per_example(replace(given_, student_BC=student_BC))
    loss_B.sum().backward()
    assert student_BC.grad is not None
    return loss_B.detach(), student_BC.grad


@pytest.mark.parametrize("name", TERMS)
def test_a_term_gives_one_fp32_loss_per_example_that_is_not_negative(name: str) -> None:
    loss_B = term(name).per_example(evidence())
    assert loss_B.shape == (6,)
    assert loss_B.dtype == torch.float32
    assert (loss_B >= -1e-6).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("name", TERMS)
def test_a_term_computes_in_fp32_whatever_type_the_student_has(name: str, dtype: torch.dtype) -> None:
    rough = evidence().student_BC.to(dtype)
    loss_B = term(name).per_example(replace(evidence(), student_BC=rough))
    expected_B = term(name).per_example(replace(evidence(), student_BC=rough.float()))
    assert loss_B.dtype == torch.float32
    assert torch.equal(loss_B, expected_B)


@pytest.mark.parametrize(
    "edges", [[0, 1, 2, 3, 4, 5, 6, 7], [0, 2, 4, 6, 7], [0, 3, 3, 7], [0, 6, 7]], ids=str
)
@pytest.mark.parametrize("name", TERMS)
def test_any_split_into_micro_batches_gives_the_same_losses_and_gradients(
    name: str, edges: list[int]
) -> None:
    whole = evidence(batch=7)
    loss_B, slope_BC = gradient(term(name), whole)
    parts = [gradient(term(name), part(whole, slice(a, b))) for a, b in pairwise(edges)]
    torch.testing.assert_close(torch.cat([loss for loss, _ in parts]), loss_B, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(torch.cat([slope for _, slope in parts]), slope_BC, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("size", [1e4, -1e4, 3e30])
def test_huge_logits_give_no_nan(name: str, size: float) -> None:
    whole = evidence()
    assert whole.teachers_KBC is not None
    # 3e30 / 0.01 still fits fp32, so no infinity arises before the softmax.
    huge = replace(
        whole,
        student_BC=whole.student_BC.sign() * size,
        teachers_KBC=whole.teachers_KBC.sign() * size,
    )
    loss_B, slope_BC = gradient(term(name), huge)
    assert torch.isfinite(loss_B).all()
    assert torch.isfinite(slope_BC).all()


@pytest.mark.parametrize("name", [name for name in TERMS if name != "kl, T=0.01"])
def test_the_gradient_is_that_of_finite_differences(name: str) -> None:
    """Central differences of the fp32 loss, to 2% of the largest slope (T = 0.01 is tested by its limit)."""
    whole = evidence(batch=2)
    one = term(name)
    _, slope_BC = gradient(one, whole)
    step = 1e-2 * max(1.0, getattr(TERMS[name], "temperature", 1.0))
    for b in range(2):
        for c in range(3):
            shift_BC = torch.zeros(2, 3)
            shift_BC[b, c] = step
            up, down = (
                one.per_example(replace(whole, student_BC=whole.student_BC + sign * shift_BC)).double().sum()
                for sign in (1, -1)
            )
            assert float(up - down) / (2 * step) == pytest.approx(
                float(slope_BC[b, c]), abs=2e-2 * float(slope_BC.abs().max()) + 1e-6
            )


def test_terms_of_weight_0_are_left_out_and_the_rest_keep_their_order() -> None:
    built = build_terms([CrossEntropy(type="cross-entropy", weight=0), KL(type="kl", weight=0.3)])
    assert [(one.name, one.weight) for one in built] == [("kl", 0.3)]


# Cross-entropy


def test_cross_entropy_is_the_negative_log_probability_and_its_gradient_is_q_minus_the_label() -> None:
    given_ = Evidence(torch.tensor([[1.0, 0.0, -1.0]]), torch.tensor([1]))
    loss_B, slope_BC = gradient(term("cross-entropy"), given_)
    total = math.exp(1) + 1 + math.exp(-1)
    assert float(loss_B) == pytest.approx(math.log(total), rel=1e-6)
    assert slope_BC.tolist()[0] == pytest.approx(
        [math.exp(1) / total, 1 / total - 1, math.exp(-1) / total], rel=1e-5
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_an_unlabelled_example_has_loss_0_and_gradient_0(smoothing: float) -> None:
    (one,) = build_terms([CrossEntropy(type="cross-entropy", label_smoothing=smoothing)])
    loss_B, slope_BC = gradient(one, evidence())
    assert loss_B[::3].tolist() == [0.0, 0.0]
    assert slope_BC[::3].abs().max() == 0.0
    assert (loss_B[1::3] > 0).all()


def test_a_batch_without_any_label_has_loss_0_not_nan() -> None:
    loss_B, slope_BC = gradient(term("cross-entropy"), replace(evidence(), labels_B=torch.full((6,), -1)))
    assert loss_B.tolist() == [0.0] * 6
    assert slope_BC.abs().max() == 0.0


def test_label_smoothing_mixes_the_label_with_the_mean_over_classes() -> None:
    """(1 - s) * -log q_y + s * mean_c -log q_c."""
    whole = replace(evidence(), labels_B=torch.tensor([0, 1, 2, 0, 1, 2]))
    log_BC = torch.log_softmax(whole.student_BC, -1)
    own_B = -log_BC[torch.arange(6), whole.labels_B]
    loss_B = term("cross-entropy, smoothed").per_example(whole)
    torch.testing.assert_close(loss_B, 0.8 * own_B + 0.2 * -log_BC.mean(-1))


# KL


def test_kl_is_0_with_gradient_0_when_the_student_equals_the_mixture() -> None:
    for name in ("kl", "kl, T=1", "kl, T=100"):
        temperature = TERMS[name].temperature
        whole = evidence()
        assert whole.teachers_KBC is not None
        assert whole.weights_KB is not None
        target_BC = mixture(whole.teachers_KBC, whole.weights_KB, temperature)
        loss_B, slope_BC = gradient(
            term(name), replace(whole, student_BC=temperature * target_BC.log() + 7.0)
        )
        assert loss_B.abs().max() < 1e-6 * temperature**2
        assert slope_BC.abs().max() < 1e-6 * temperature


@given(
    logits=st.lists(st.floats(-30, 30, width=32), min_size=9, max_size=9),
    share=st.floats(0, 1),
    temperature=st.floats(0.5, 20),
)
@settings(max_examples=40, deadline=None)
def test_kl_is_never_negative_beyond_rounding(logits: list[float], share: float, temperature: float) -> None:
    (one,) = build_terms([KL(type="kl", temperature=temperature)])
    student, first, second = torch.tensor(logits).reshape(3, 1, 3)
    loss_B = one.per_example(
        Evidence(
            student,
            torch.tensor([-1]),
            torch.stack([first, second]),
            torch.tensor([[share], [1 - share]]),
        )
    )
    assert float(loss_B) >= -2e-6 * temperature**2


def test_kl_of_two_classes_is_the_closed_form() -> None:
    """One teacher with p = (0.8, 0.2), a student with q = (0.5, 0.5), T = 1."""
    given_ = Evidence(
        torch.zeros(1, 2),
        torch.tensor([-1]),
        torch.tensor([[[math.log(0.8), math.log(0.2)]]]),
        torch.ones(1, 1),
    )
    loss_B, slope_BC = gradient(term("kl, T=1"), given_)
    assert float(loss_B) == pytest.approx(0.8 * math.log(1.6) + 0.2 * math.log(0.4), rel=1e-5)
    assert slope_BC.tolist()[0] == pytest.approx([0.5 - 0.8, 0.5 - 0.2], rel=1e-5)


def test_kl_is_the_difference_that_torch_computes() -> None:
    whole = evidence()
    assert whole.teachers_KBC is not None
    assert whole.weights_KB is not None
    target_BC = mixture(whole.teachers_KBC, whole.weights_KB, 2.0)
    expected_B = 4 * F.kl_div(torch.log_softmax(whole.student_BC / 2, -1), target_BC, reduction="none").sum(
        -1
    )
    torch.testing.assert_close(term("kl").per_example(whole), expected_B, rtol=1e-5, atol=1e-6)


def test_t_squared_keeps_the_size_of_the_gradient() -> None:
    """For T far above the logits the gradient tends to (z_student - z_teacher) / C, logits centred."""
    whole = evidence(teachers=1)
    assert whole.teachers_KBC is not None
    whole = replace(whole, weights_KB=torch.ones(1, 6))
    gap_BC = whole.student_BC - whole.teachers_KBC[0]  # type: ignore[index]
    limit_BC = (gap_BC - gap_BC.mean(-1, keepdim=True)) / 3
    _, slope_BC = gradient(term("kl, T=100"), whole)
    torch.testing.assert_close(slope_BC, limit_BC, rtol=0.1, atol=0.1)
    sizes = {}
    for temperature in (1.0, 4.0, 16.0, 64.0):
        (one,) = build_terms([KL(type="kl", temperature=temperature)])
        sizes[temperature] = float(gradient(one, whole)[1].norm())
    assert max(sizes.values()) < 4 * min(sizes.values()), sizes


def test_kl_at_a_low_temperature_asks_for_the_teachers_first_class() -> None:
    given_ = Evidence(
        torch.tensor([[0.0, 1.0]]), torch.tensor([-1]), torch.tensor([[[2.0, 1.0]]]), torch.ones(1, 1)
    )
    loss_B, slope_BC = gradient(term("kl, T=0.01"), given_)
    assert float(loss_B) == pytest.approx(0.01 * 1.0, rel=1e-3)  # T^2 * (gap / T)
    assert slope_BC.tolist()[0] == pytest.approx([-0.01, 0.01], rel=1e-3)


def test_kl_without_signals_is_an_error_that_says_so() -> None:
    with pytest.raises(ValueError, match="got no teacher signals"):
        term("kl").per_example(Evidence(torch.zeros(1, 2), torch.tensor([0])))


def test_a_teacher_of_weight_0_has_no_say() -> None:
    whole = evidence()
    assert whole.teachers_KBC is not None
    alone = replace(whole, weights_KB=torch.tensor([[1.0], [0.0]]).expand(2, 6))
    other = replace(alone, teachers_KBC=torch.stack([whole.teachers_KBC[0], whole.teachers_KBC[1] * -50]))
    assert torch.equal(term("kl").per_example(alone), term("kl").per_example(other))
