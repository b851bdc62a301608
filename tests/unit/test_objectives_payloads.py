"""KL from top-k, draws and mixes of payloads, and generalised JSD, against plain formulas.

Shapes: P positions, V classes or vocabulary, K teachers, k entries of a top-k.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.unit.payload_samples import kl_gradient
from tutelage.config.objectives import JSD, KL, Confidence
from tutelage.objectives import Dense, Draws, Evidence, Signal, TopK, build_combiner, build_terms, mixture
from tutelage.objectives.base import STACKED, mixture_of
from tutelage.objectives.partial import draws_loss

pytestmark = pytest.mark.unit

P, V, K = 6, 30, 2
LABELS_P = torch.full((P,), -1)


def logits(seed: int, width: int = V, size: float = 3.0) -> Tensor:
    return size * torch.randn(P, width, generator=torch.Generator().manual_seed(seed))


def weights() -> Tensor:
    return torch.softmax(torch.randn(K, P, generator=torch.Generator().manual_seed(5)), 0)


def top(logits_PV: Tensor, k: int, temperature: float = 1.0) -> TopK:
    log_p_Pk, ids_Pk = torch.log_softmax(logits_PV / temperature, -1).topk(k)
    return TopK(ids_Pk, log_p_Pk, temperature)


def every_label(logits_PV: Tensor, temperature: float = 1.0, *, mixture: bool = False) -> Draws:
    """Draws that hit each label with exactly its probability: their loss is the exact cross-entropy."""
    p_PV = torch.softmax(logits_PV / temperature, -1)
    ids_R = torch.arange(logits_PV.shape[1]).repeat(P)
    return Draws(ids_R, torch.arange(P).repeat_interleave(V), p_PV.flatten(), temperature, mixture)


def plain_top_k(signal: TopK, student_PV: Tensor) -> Tensor:
    """KL over k + 1 cells in fp64, the tail by subtraction."""
    q_PV = torch.softmax(student_PV.double() / signal.temperature, -1)
    p_Pk = signal.log_p_Pk.double().exp()
    q_Pk = q_PV.gather(1, signal.ids_Pk)
    p = torch.cat([p_Pk, 1 - p_Pk.sum(-1, keepdim=True)], -1)
    q = torch.cat([q_Pk, 1 - q_Pk.sum(-1, keepdim=True)], -1)
    return signal.temperature**2 * (p * (p / q).log()).sum(-1)


ONE_P = torch.ones(1, P)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("k", [1, 8, V - 1])
def test_top_k_is_the_kl_over_k_plus_1_cells_in_value_and_gradient(k: int, temperature: float) -> None:
    signal = top(logits(0), k, temperature)
    loss_P, slope_PV = kl_gradient(logits(1), [signal], ONE_P, temperature)
    student_PV = logits(1).double().requires_grad_()
    expected_P = plain_top_k(signal, student_PV)
    expected_P.sum().backward()
    torch.testing.assert_close(loss_P.double(), expected_P.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(slope_PV.double(), student_PV.grad, rtol=1e-4, atol=1e-5)


def test_the_gradient_of_draws_is_that_of_their_cross_entropy_whatever_the_slopes() -> None:
    """Two teachers, repeated labels, a position without draws; checked by differences in fp64."""
    student_PV = logits(1).double().requires_grad_()
    positions_R = torch.tensor([0, 0, 1, 3, 3, 3, 5])
    one = Draws(
        torch.tensor([2, 2, 7, 0, 1, 1, 29]), positions_R, torch.rand(7, dtype=torch.float64), 1.0, False
    )
    two = Draws(torch.tensor([2, 4]), torch.tensor([0, 4]), torch.rand(2, dtype=torch.float64), 1.0, False)
    weighted = [(one, torch.rand(P, dtype=torch.float64)), (two, torch.rand(P, dtype=torch.float64))]
    assert torch.autograd.gradcheck(lambda given_PV: draws_loss(weighted, given_PV), [student_PV])
    log_q_PV = torch.log_softmax(student_PV, -1)
    expected_P = torch.zeros(P, dtype=torch.float64)
    for draws, weight_P in weighted:
        for position, label, share in zip(draws.positions_R, draws.ids_R, draws.shares_R, strict=True):
            expected_P[position] -= (weight_P[position] * share * log_q_PV[position, label]).item()
    torch.testing.assert_close(draws_loss(weighted, student_PV).detach(), expected_P)


def test_top_k_of_all_but_one_label_is_the_exact_kl() -> None:
    """With one label in the tail nothing is lumped together."""
    exact = kl_gradient(logits(1), [Dense(logits(0))], ONE_P)
    found = kl_gradient(logits(1), [top(logits(0), V - 1)], ONE_P)
    torch.testing.assert_close(found[0], exact[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[1], exact[1], rtol=1e-4, atol=1e-5)


def test_top_k_is_never_above_the_exact_kl_and_0_where_the_student_is_the_teacher() -> None:
    exact_P, _ = kl_gradient(logits(1), [Dense(logits(0))], ONE_P)
    before_P = torch.zeros(P)
    for k in (1, 2, 4, 8, 16):
        loss_P, _ = kl_gradient(logits(1), [top(logits(0), k)], ONE_P)
        assert (loss_P <= exact_P + 1e-5).all()
        assert (loss_P >= before_P - 1e-5).all()
        before_P = loss_P
        same_P, slope_PV = kl_gradient(logits(0), [top(logits(0), k)], ONE_P)
        assert same_P.abs().max() < 1e-5
        assert slope_PV.abs().max() < 1e-5


def test_the_students_tail_is_right_where_it_is_far_below_1() -> None:
    """Student's tail 29 e^-60: by subtraction from 1 it would be 0, and the loss infinite."""
    student_PV = torch.zeros(P, V)
    student_PV[:, 0] = 60.0
    signal = TopK(torch.zeros(P, 1, dtype=torch.long), torch.full((P, 1), math.log(0.75)), 1.0)
    loss_P, slope_PV = kl_gradient(student_PV, [signal], ONE_P)
    expected = 0.75 * math.log(0.75) + 0.25 * (math.log(0.25) + 60 - math.log(29))
    assert loss_P.tolist() == pytest.approx([expected] * P, rel=1e-5)
    assert slope_PV[0, 0].item() == pytest.approx(0.25, rel=1e-5)
    assert slope_PV[0, 1:].tolist() == pytest.approx([-0.25 / 29] * 29, rel=1e-5)


@pytest.mark.parametrize("size", [1e4, 3e30])
def test_huge_logits_give_no_nan_from_partial_signals(size: float) -> None:
    for signal in (top(logits(0).sign() * size, 4), every_label(logits(0).sign() * size)):
        loss_P, slope_PV = kl_gradient(logits(1).sign() * size, [signal], ONE_P)
        assert torch.isfinite(loss_P).all()
        assert torch.isfinite(slope_PV).all()


def test_masses_that_rounding_took_above_1_have_no_tail() -> None:
    signal = TopK(torch.tensor([[0, 1]] * P), torch.tensor([[0.6, 0.4005]] * P).log(), 1.0)
    loss_P, slope_PV = kl_gradient(logits(1), [signal], ONE_P)
    assert torch.isfinite(loss_P).all()
    assert torch.isfinite(slope_PV).all()


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_draws_are_the_cross_entropy_of_their_shares(temperature: float) -> None:
    signal = every_label(logits(0), temperature)
    loss_P, slope_PV = kl_gradient(logits(1), [signal], ONE_P, temperature)
    exact_P, exact_PV = kl_gradient(logits(1), [Dense(logits(0))], ONE_P, temperature)
    p_PV = torch.softmax(logits(0) / temperature, -1)
    entropy_P = -(p_PV * p_PV.log()).sum(-1) * temperature**2
    torch.testing.assert_close(loss_P, exact_P + entropy_P, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(slope_PV, exact_PV, rtol=1e-5, atol=1e-6)


def test_a_mix_of_payloads_has_the_gradient_of_the_mixture_and_the_value_of_the_parts() -> None:
    """sum_k w_k KL(p_k || q) = KL(p || q) + sum_k w_k KL(p_k || p)."""
    exact_P, exact_PV = kl_gradient(logits(9), [Dense(logits(0)), Dense(logits(1))], weights())
    mixed = [Dense(logits(0)), top(logits(1), V - 1)]
    loss_P, slope_PV = kl_gradient(logits(9), mixed, weights())
    torch.testing.assert_close(slope_PV, exact_PV, rtol=1e-4, atol=1e-5)
    both_KPV = torch.stack([logits(0), logits(1)])
    p_PV = mixture(both_KPV, weights())
    apart_KP = (torch.softmax(both_KPV, -1) * (torch.log_softmax(both_KPV, -1) - p_PV.log())).sum(-1)
    torch.testing.assert_close(loss_P, exact_P + (weights() * apart_KP).sum(0), rtol=1e-4, atol=1e-5)
    drawn = kl_gradient(logits(9), [top(logits(0), V - 1), every_label(logits(1))], weights())[1]
    torch.testing.assert_close(drawn, exact_PV, rtol=1e-4, atol=1e-5)


def test_partial_signals_split_into_micro_batches_give_the_same_losses() -> None:
    whole_P, _ = kl_gradient(logits(9), [top(logits(0), 4), top(logits(1), 4)], weights())
    for p in range(P):
        one = [
            TopK(s.ids_Pk[p : p + 1], s.log_p_Pk[p : p + 1], 1.0)
            for s in (top(logits(0), 4), top(logits(1), 4))
        ]
        loss_P, _ = kl_gradient(logits(9)[p : p + 1], one, weights()[:, p : p + 1])
        torch.testing.assert_close(loss_P, whole_P[p : p + 1], rtol=1e-6, atol=1e-7)


def test_a_payload_of_another_temperature_is_an_error() -> None:
    for signal in (top(logits(0), 4, 2.0), every_label(logits(0), 2.0)):
        with pytest.raises(ValueError, match="temperature 2 cannot serve the kl objective at temperature 1"):
            kl_gradient(logits(1), [signal], ONE_P)


def test_a_vocabulary_is_mixed_one_teacher_at_a_time_to_the_same_target() -> None:
    wide = [Dense(logits(k, STACKED + 1)) for k in range(K)]
    together_PV = mixture(torch.stack([one.logits_PV for one in wide]), weights(), 2.0)
    torch.testing.assert_close(mixture_of(wide, weights(), 2.0), together_PV, rtol=1e-5, atol=1e-8)


def test_a_few_classes_are_mixed_bit_for_bit_as_in_one_product() -> None:
    few = [Dense(logits(k)) for k in range(K)]
    together_PV = mixture(torch.stack([one.logits_PV for one in few]), weights(), 2.0)
    assert torch.equal(mixture_of(few, weights(), 2.0), together_PV)


def test_confidence_goes_by_the_entropy_that_travels_with_draws_and_by_nothing_less() -> None:
    rule = build_combiner(Confidence(type="confidence"), ["a", "b"])
    dense = [Dense(logits(0)), Dense(logits(1, size=1.0))]
    p = [torch.softmax(one.logits_PV, -1) for one in dense]
    doubts = [-(one * one.log()).sum(-1) / math.log(V) for one in p]
    drawn = [replace(every_label(one.logits_PV), doubt_P=d) for one, d in zip(dense, doubts, strict=True)]
    expected_KP = rule.weights(dense, [""] * P, torch.arange(P))
    torch.testing.assert_close(rule.weights(drawn, [""] * P, torch.arange(P)), expected_KP)
    lacking: list[list[Signal]] = [[top(logits(0), 4)] * 2, [every_label(logits(0), mixture=True)] * 2]
    for signals in lacking:
        with pytest.raises(ValueError, match="confidence combiner needs"):
            rule.weights(signals, [""] * P, torch.arange(P))


# JSD


def jsd(beta: float, temperature: float, evidence: Evidence) -> tuple[Tensor, Tensor]:
    """Loss [P] and gradient [P, V]."""
    (term,) = build_terms([JSD(type="jsd", beta=beta, temperature=temperature)])
    student_PV = evidence.student_PV.clone().requires_grad_()
    loss_P = term.per_position(replace(evidence, student_PV=student_PV))
    loss_P.sum().backward()
    assert student_PV.grad is not None
    return loss_P.detach(), student_PV.grad


def both() -> Evidence:
    return Evidence(logits(9), LABELS_P, (Dense(logits(0)), Dense(logits(1))), weights())


def plain_jsd(beta: float, temperature: float, student_PV: Tensor) -> Tensor:
    """The formula on probabilities in fp64."""
    p_PV = mixture(torch.stack([logits(0), logits(1)]).double(), weights().double(), temperature).double()
    q_PV = torch.softmax(student_PV / temperature, -1)
    if beta in (0, 1):
        a, b = (p_PV, q_PV) if beta == 0 else (q_PV, p_PV)
        return temperature**2 * (a * (a / b).log()).sum(-1)
    m_PV = beta * p_PV + (1 - beta) * q_PV
    first, second = (p_PV * (p_PV / m_PV).log()).sum(-1), (q_PV * (q_PV / m_PV).log()).sum(-1)
    return temperature**2 * (beta * first + (1 - beta) * second)


@pytest.mark.parametrize("temperature", [0.7, 1.0, 4.0])
@pytest.mark.parametrize("beta", [0, 0.1, 0.5, 0.9, 1])
def test_jsd_has_the_value_and_gradient_of_the_formula(beta: float, temperature: float) -> None:
    loss_P, slope_PV = jsd(beta, temperature, both())
    student_PV = logits(9).double().requires_grad_()
    expected_P = plain_jsd(beta, temperature, student_PV)
    expected_P.sum().backward()
    torch.testing.assert_close(loss_P.double(), expected_P.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(slope_PV.double(), student_PV.grad, rtol=1e-3, atol=1e-5)


def test_jsd_tends_to_forward_and_to_reverse_kl_over_beta() -> None:
    """Near each other: no label's odds come near 1 / beta."""
    close = Evidence(logits(9, size=0.5), LABELS_P, (Dense(logits(0, size=0.5)),), ONE_P)
    small = 1e-3
    forward_P, reverse_P = jsd(0, 1, close)[0], jsd(1, 1, close)[0]
    assert (forward_P - reverse_P).abs().max() > 0.02
    torch.testing.assert_close(jsd(small, 1, close)[0] / small, forward_P, rtol=5e-3, atol=1e-3)
    torch.testing.assert_close(jsd(1 - small, 1, close)[0] / small, reverse_P, rtol=5e-3, atol=1e-3)


def test_jsd_at_beta_0_is_the_kl_objective() -> None:
    (kl,) = build_terms([KL(type="kl", temperature=2)])
    torch.testing.assert_close(jsd(0, 2, both())[0], kl.per_position(both()), rtol=1e-5, atol=1e-6)


def test_jsd_at_one_half_is_symmetric_and_at_most_log_2() -> None:
    one = Evidence(logits(9), LABELS_P, (Dense(logits(0)),), ONE_P)
    other = Evidence(logits(0), LABELS_P, (Dense(logits(9)),), ONE_P)
    torch.testing.assert_close(jsd(0.5, 1, one)[0], jsd(0.5, 1, other)[0])
    apart = Evidence(torch.eye(V)[:P] * 500, LABELS_P, (Dense(torch.eye(V)[-P:] * 500),), ONE_P)
    assert jsd(0.5, 1, apart)[0].tolist() == pytest.approx([math.log(2)] * P, rel=1e-5)


@pytest.mark.parametrize("beta", [0, 0.3, 1])
def test_jsd_is_0_with_gradient_0_when_the_student_is_the_teacher(beta: float) -> None:
    same = Evidence(logits(0) + 5, LABELS_P, (Dense(logits(0)),), ONE_P)
    loss_P, slope_PV = jsd(beta, 1, same)
    assert loss_P.abs().max() < 1e-6
    assert slope_PV.abs().max() < 1e-6


@pytest.mark.parametrize("beta", [0, 0.3, 1])
def test_jsd_is_0_without_nan_where_no_teacher_covers_the_position(beta: float) -> None:
    weights_KP = weights().clone()
    weights_KP[:, 2] = 0
    weights_KP[:, 3] = torch.tensor([0.0, 1.0])
    loss_P, slope_PV = jsd(beta, 1, replace(both(), weights_KP=weights_KP))
    assert loss_P[2] == 0
    assert slope_PV[2].abs().max() == 0
    alone = Evidence(logits(9), LABELS_P, (Dense(logits(1)),), ONE_P)
    torch.testing.assert_close(loss_P[3], jsd(beta, 1, alone)[0][3])
    assert torch.isfinite(slope_PV).all()


@pytest.mark.parametrize("signal", [top(logits(0), 4), every_label(logits(0))])
def test_jsd_refuses_signals_that_do_not_name_every_label(signal: Signal) -> None:
    (term,) = build_terms([JSD(type="jsd")])
    with pytest.raises(ValueError, match="needs dense or hidden"):
        term.per_position(Evidence(logits(9), LABELS_P, (signal,), ONE_P))


def test_jsd_without_signals_is_an_error_that_says_so() -> None:
    (term,) = build_terms([JSD(type="jsd")])
    with pytest.raises(ValueError, match="got no teacher signals"):
        term.per_position(Evidence(logits(9), LABELS_P))
