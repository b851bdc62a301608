"""Every loss term keeps one contract, and each has the values and gradients of its formula.

Shapes: P positions, V classes, K teachers.
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

from tutelage.config.objectives import JSD, KL, CrossEntropy
from tutelage.objectives import Dense, Evidence, Term, build_terms, mixture

pytestmark = pytest.mark.unit

TERMS: dict[str, Any] = {
    "cross-entropy": CrossEntropy(type="cross-entropy"),
    "cross-entropy, smoothed": CrossEntropy(type="cross-entropy", label_smoothing=0.2, weight=0.5),
    "kl": KL(type="kl"),
    "kl, T=1": KL(type="kl", temperature=1),
    "kl, T=100": KL(type="kl", temperature=100),
    "kl, T=0.01": KL(type="kl", temperature=0.01),
    "jsd": JSD(type="jsd"),
    "jsd, b=0": JSD(type="jsd", beta=0, temperature=2),
    "jsd, b=1": JSD(type="jsd", beta=1),
    "jsd, b=0.1": JSD(type="jsd", beta=0.1, temperature=3, weight=0.5),
}


def term(name: str) -> Term:
    (built,) = build_terms([TERMS[name]])
    return built


def evidence(batch: int = 6, classes: int = 3, members: int = 2, seed: int = 0) -> Evidence:
    """Random logits and column weights; every third example is unlabelled."""
    generator = torch.Generator().manual_seed(seed)
    labels_P = torch.randint(0, classes, (batch,), generator=generator)
    labels_P[::3] = -1
    return Evidence(
        student_PV=3 * torch.randn(batch, classes, generator=generator),
        labels_P=labels_P,
        signals=tuple(Dense(3 * torch.randn(batch, classes, generator=generator)) for _ in range(members)),
        weights_KP=torch.softmax(torch.randn(members, batch, generator=generator), dim=0),
    )


def part(whole: Evidence, rows: slice) -> Evidence:
    """The same examples alone."""
    assert whole.weights_KP is not None
    return Evidence(
        whole.student_PV[rows],
        whole.labels_P[rows],
        tuple(Dense(logits_PV[rows]) for logits_PV in teachers(whole)),
        whole.weights_KP[:, rows],
    )


def teachers(whole: Evidence) -> list[Tensor]:
    """Logits [P, V] of each teacher."""
    return [signal.logits_PV for signal in whole.signals if isinstance(signal, Dense)]


def dense(*logits_PV: Tensor) -> tuple[Dense, ...]:
    return tuple(map(Dense, logits_PV))


def gradient(one: Term, given_: Evidence) -> tuple[Tensor, Tensor]:
    """Loss of each example, and the gradient of their sum for the student's logits."""
    student_PV = given_.student_PV.clone().requires_grad_()
    loss_P = one.per_position(replace(given_, student_PV=student_PV))
    loss_P.sum().backward()
    assert student_PV.grad is not None
    return loss_P.detach(), student_PV.grad


@pytest.mark.parametrize("name", TERMS)
def test_a_term_gives_one_fp32_loss_per_position_that_is_not_negative(name: str) -> None:
    loss_P = term(name).per_position(evidence())
    assert loss_P.shape == (6,)
    assert loss_P.dtype == torch.float32
    assert (loss_P >= -1e-6).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("name", TERMS)
def test_a_term_computes_in_fp32_whatever_type_the_student_has(name: str, dtype: torch.dtype) -> None:
    rough = evidence().student_PV.to(dtype)
    loss_P = term(name).per_position(replace(evidence(), student_PV=rough))
    expected_P = term(name).per_position(replace(evidence(), student_PV=rough.float()))
    assert loss_P.dtype == torch.float32
    assert torch.equal(loss_P, expected_P)


@pytest.mark.parametrize(
    "edges", [[0, 1, 2, 3, 4, 5, 6, 7], [0, 2, 4, 6, 7], [0, 3, 3, 7], [0, 6, 7]], ids=str
)
@pytest.mark.parametrize("name", TERMS)
def test_any_split_into_micro_batches_gives_the_same_losses_and_gradients(
    name: str, edges: list[int]
) -> None:
    whole = evidence(batch=7)
    loss_P, slope_PV = gradient(term(name), whole)
    parts = [gradient(term(name), part(whole, slice(a, b))) for a, b in pairwise(edges)]
    torch.testing.assert_close(torch.cat([loss for loss, _ in parts]), loss_P, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(torch.cat([slope for _, slope in parts]), slope_PV, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("size", [1e4, -1e4, 3e30])
def test_huge_logits_give_no_nan(name: str, size: float) -> None:
    whole = evidence()
    # 3e30 / 0.01 still fits fp32, so no infinity arises before the softmax.
    huge = replace(
        whole,
        student_PV=whole.student_PV.sign() * size,
        signals=dense(*[logits_PV.sign() * size for logits_PV in teachers(whole)]),
    )
    loss_P, slope_PV = gradient(term(name), huge)
    assert torch.isfinite(loss_P).all()
    assert torch.isfinite(slope_PV).all()


@pytest.mark.parametrize("name", [name for name in TERMS if name != "kl, T=0.01"])
def test_the_gradient_is_that_of_finite_differences(name: str) -> None:
    """Central differences of the fp32 loss, to 2% of the largest slope (T = 0.01 is tested by its limit)."""
    whole = evidence(batch=2)
    one = term(name)
    _, slope_PV = gradient(one, whole)
    step = 1e-2 * max(1.0, getattr(TERMS[name], "temperature", 1.0))
    for b in range(2):
        for c in range(3):
            shift_PV = torch.zeros(2, 3)
            shift_PV[b, c] = step
            up, down = (
                one.per_position(replace(whole, student_PV=whole.student_PV + sign * shift_PV)).double().sum()
                for sign in (1, -1)
            )
            assert float(up - down) / (2 * step) == pytest.approx(
                float(slope_PV[b, c]), abs=2e-2 * float(slope_PV.abs().max()) + 1e-6
            )


def test_terms_of_weight_0_are_left_out_and_the_rest_keep_their_order() -> None:
    built = build_terms([CrossEntropy(type="cross-entropy", weight=0), KL(type="kl", weight=0.3)])
    assert [(one.name, one.weight) for one in built] == [("kl", 0.3)]


# Cross-entropy


def test_cross_entropy_is_the_negative_log_probability_and_its_gradient_is_q_minus_the_label() -> None:
    given_ = Evidence(torch.tensor([[1.0, 0.0, -1.0]]), torch.tensor([1]))
    loss_P, slope_PV = gradient(term("cross-entropy"), given_)
    total = math.exp(1) + 1 + math.exp(-1)
    assert float(loss_P) == pytest.approx(math.log(total), rel=1e-6)
    assert slope_PV.tolist()[0] == pytest.approx(
        [math.exp(1) / total, 1 / total - 1, math.exp(-1) / total], rel=1e-5
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_an_unlabelled_example_has_loss_0_and_gradient_0(smoothing: float) -> None:
    (one,) = build_terms([CrossEntropy(type="cross-entropy", label_smoothing=smoothing)])
    loss_P, slope_PV = gradient(one, evidence())
    assert loss_P[::3].tolist() == [0.0, 0.0]
    assert slope_PV[::3].abs().max() == 0.0
    assert (loss_P[1::3] > 0).all()


def test_a_batch_without_any_label_has_loss_0_not_nan() -> None:
    loss_P, slope_PV = gradient(term("cross-entropy"), replace(evidence(), labels_P=torch.full((6,), -1)))
    assert loss_P.tolist() == [0.0] * 6
    assert slope_PV.abs().max() == 0.0


def test_label_smoothing_mixes_the_label_with_the_mean_over_classes() -> None:
    """(1 - s) * -log q_y + s * mean_c -log q_c."""
    whole = replace(evidence(), labels_P=torch.tensor([0, 1, 2, 0, 1, 2]))
    log_PV = torch.log_softmax(whole.student_PV, -1)
    own_P = -log_PV[torch.arange(6), whole.labels_P]
    loss_P = term("cross-entropy, smoothed").per_position(whole)
    torch.testing.assert_close(loss_P, 0.8 * own_P + 0.2 * -log_PV.mean(-1))


# KL


def test_kl_is_0_with_gradient_0_when_the_student_equals_the_mixture() -> None:
    for name in ("kl", "kl, T=1", "kl, T=100"):
        temperature = TERMS[name].temperature
        whole = evidence()
        assert whole.weights_KP is not None
        target_PV = mixture(torch.stack(teachers(whole)), whole.weights_KP, temperature)
        loss_P, slope_PV = gradient(
            term(name), replace(whole, student_PV=temperature * target_PV.log() + 7.0)
        )
        assert loss_P.abs().max() < 1e-6 * temperature**2
        assert slope_PV.abs().max() < 1e-6 * temperature


@given(
    logits=st.lists(st.floats(-30, 30, width=32), min_size=9, max_size=9),
    share=st.floats(0, 1),
    temperature=st.floats(0.5, 20),
)
@settings(max_examples=40, deadline=None)
def test_kl_is_never_negative_beyond_rounding(logits: list[float], share: float, temperature: float) -> None:
    (one,) = build_terms([KL(type="kl", temperature=temperature)])
    student, first, second = torch.tensor(logits).reshape(3, 1, 3)
    loss_P = one.per_position(
        Evidence(
            student,
            torch.tensor([-1]),
            dense(first, second),
            torch.tensor([[share], [1 - share]]),
        )
    )
    assert float(loss_P) >= -2e-6 * temperature**2


def test_kl_of_two_classes_is_the_closed_form() -> None:
    """One teacher with p = (0.8, 0.2), a student with q = (0.5, 0.5), T = 1."""
    given_ = Evidence(
        torch.zeros(1, 2),
        torch.tensor([-1]),
        dense(torch.tensor([[math.log(0.8), math.log(0.2)]])),
        torch.ones(1, 1),
    )
    loss_P, slope_PV = gradient(term("kl, T=1"), given_)
    assert float(loss_P) == pytest.approx(0.8 * math.log(1.6) + 0.2 * math.log(0.4), rel=1e-5)
    assert slope_PV.tolist()[0] == pytest.approx([0.5 - 0.8, 0.5 - 0.2], rel=1e-5)


def test_kl_is_the_difference_that_torch_computes() -> None:
    whole = evidence()
    assert whole.weights_KP is not None
    target_PV = mixture(torch.stack(teachers(whole)), whole.weights_KP, 2.0)
    expected_P = 4 * F.kl_div(torch.log_softmax(whole.student_PV / 2, -1), target_PV, reduction="none").sum(
        -1
    )
    torch.testing.assert_close(term("kl").per_position(whole), expected_P, rtol=1e-5, atol=1e-6)


def test_t_squared_keeps_the_size_of_the_gradient() -> None:
    """For T far above the logits the gradient tends to (z_student - z_teacher) / C, logits centred."""
    whole = evidence(members=1)
    whole = replace(whole, weights_KP=torch.ones(1, 6))
    gap_PV = whole.student_PV - teachers(whole)[0]
    limit_PV = (gap_PV - gap_PV.mean(-1, keepdim=True)) / 3
    _, slope_PV = gradient(term("kl, T=100"), whole)
    torch.testing.assert_close(slope_PV, limit_PV, rtol=0.1, atol=0.1)
    sizes = {}
    for temperature in (1.0, 4.0, 16.0, 64.0):
        (one,) = build_terms([KL(type="kl", temperature=temperature)])
        sizes[temperature] = float(gradient(one, whole)[1].norm())
    assert max(sizes.values()) < 4 * min(sizes.values()), sizes


def test_kl_at_a_low_temperature_asks_for_the_teachers_first_class() -> None:
    given_ = Evidence(
        torch.tensor([[0.0, 1.0]]), torch.tensor([-1]), dense(torch.tensor([[2.0, 1.0]])), torch.ones(1, 1)
    )
    loss_P, slope_PV = gradient(term("kl, T=0.01"), given_)
    assert float(loss_P) == pytest.approx(0.01 * 1.0, rel=1e-3)  # T^2 * (gap / T)
    assert slope_PV.tolist()[0] == pytest.approx([-0.01, 0.01], rel=1e-3)


def test_kl_without_signals_is_an_error_that_says_so() -> None:
    with pytest.raises(ValueError, match="got no teacher signals"):
        term("kl").per_position(Evidence(torch.zeros(1, 2), torch.tensor([0])))


def test_a_teacher_of_weight_0_has_no_say() -> None:
    whole = evidence()
    alone = replace(whole, weights_KP=torch.tensor([[1.0], [0.0]]).expand(2, 6))
    other = replace(alone, signals=dense(teachers(whole)[0], teachers(whole)[1] * -50))
    assert torch.equal(term("kl").per_position(alone), term("kl").per_position(other))
