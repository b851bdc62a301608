"""Keeping what the version before knew: its classes alone, and logits stored with replayed texts.

Shapes: P positions, V classes, W classes that the version before knew.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from tutelage.config.update import Distil
from tutelage.objectives import Dense, Evidence
from tutelage.objectives.retain import RetainTerm, StoredLogitsTerm

pytestmark = pytest.mark.unit

NAN = float("nan")


def draw(*shape: int, seed: int = 0) -> Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def evidence(student_PV: Tensor, champion: Any = None, stored_PV: Tensor | None = None) -> Evidence:
    labels_P = torch.full((len(student_PV),), -1)
    return Evidence(student_PV, labels_P, champion=champion, stored_PV=stored_PV)


def retain(temperature: float = 2.0) -> RetainTerm:
    return RetainTerm(Distil(weight=0.7, temperature=temperature))


def slope(term: Any, student_PV: Tensor, **about: Any) -> tuple[Tensor, Tensor]:
    """Loss of each position, and the gradient of their sum."""
    student_PV = student_PV.clone().requires_grad_()
    loss_P = term.per_position(evidence(student_PV, **about))
    loss_P.sum().backward()
    assert student_PV.grad is not None
    return loss_P.detach(), student_PV.grad


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
@pytest.mark.parametrize("known", [2, 3, 5])
def test_retaining_is_the_kl_over_the_known_classes(known: int, temperature: float) -> None:
    """T^2 sum p log(p / q) in fp64, q the softmax of the first W logits of 5."""
    student_PV, champion_PW = draw(6, 5), draw(6, known, seed=1)
    loss_P = retain(temperature).per_position(evidence(student_PV, Dense(champion_PW)))
    p_PW = torch.softmax(champion_PW.double() / temperature, -1)
    q_PW = torch.softmax(student_PV[:, :known].double() / temperature, -1)
    expected_P = temperature**2 * (p_PW * (p_PW / q_PW).log()).sum(-1)
    assert loss_P.dtype == torch.float32
    torch.testing.assert_close(loss_P, expected_P.float(), rtol=1e-4, atol=1e-5)


def test_a_new_class_feels_nothing_of_the_version_before() -> None:
    """Gradient exactly 0, and no value of its logit changes the loss."""
    student_PV, champion = draw(6, 5), Dense(draw(6, 3, seed=1))
    loss_P, slope_PV = slope(retain(), student_PV, champion=champion)
    assert slope_PV[:, 3:].count_nonzero() == 0
    assert float(slope_PV[:, :3].abs().min()) > 0
    student_PV[:, 3:] = 1e4
    assert torch.equal(slope(retain(), student_PV, champion=champion)[0], loss_P)


def test_a_student_that_kept_the_old_logits_has_no_loss() -> None:
    old_PW = draw(6, 3)
    grown_PV = torch.cat([old_PW + 1.5, draw(6, 2, seed=2)], 1)  # a shift of all logits says nothing
    loss_P, slope_PV = slope(retain(), grown_PV, champion=Dense(old_PW))
    assert loss_P.abs().max() < 1e-5
    assert slope_PV.abs().max() < 1e-5


def test_where_the_version_before_is_lost_there_is_loss_0_and_gradient_0() -> None:
    student_PV, champion_PW = draw(4, 5), draw(4, 3, seed=1)
    known_P = torch.tensor([True, False, True, False])
    loss_P, slope_PV = slope(retain(), student_PV, champion=Dense(champion_PW, known_P))
    whole_P, whole_PV = slope(retain(), student_PV, champion=Dense(champion_PW))
    assert loss_P[~known_P].tolist() == [0.0, 0.0]
    assert slope_PV[~known_P].count_nonzero() == 0
    torch.testing.assert_close(loss_P[known_P], whole_P[known_P])
    torch.testing.assert_close(slope_PV[known_P], whole_PV[known_P])


def test_a_version_before_that_is_lost_everywhere_gives_0() -> None:
    lost = Dense(torch.zeros(4, 3), torch.zeros(4, dtype=torch.bool))
    loss_P, slope_PV = slope(retain(), draw(4, 5), champion=lost)
    assert loss_P.tolist() == [0.0] * 4
    assert slope_PV.count_nonzero() == 0


def test_other_teachers_have_no_say_in_what_is_retained() -> None:
    student_PV, champion = draw(4, 3), Dense(draw(4, 3, seed=1))
    alone = evidence(student_PV, champion)
    beside = Evidence(
        student_PV, alone.labels_P, (Dense(draw(4, 3, seed=2)),), torch.ones(1, 4), champion=champion
    )
    assert torch.equal(retain().per_position(alone), retain().per_position(beside))


def test_retaining_without_the_version_before_is_an_error_that_says_so() -> None:
    with pytest.raises(ValueError, match="version before"):
        retain().per_position(evidence(draw(2, 3)))


def test_weights_come_from_the_config() -> None:
    assert (retain().name, retain().weight) == ("retain", 0.7)
    assert (StoredLogitsTerm(0.5).name, StoredLogitsTerm(0.5).weight) == ("stored-logits", 0.5)


def test_stored_logits_are_the_mean_square_over_the_classes_of_their_time() -> None:
    student_PV = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    stored_PV = torch.tensor([[0.0, 0.0, 0.0], [3.0, 2.0, NAN], [NAN, NAN, NAN]])
    loss_P, slope_PV = slope(StoredLogitsTerm(1.0), student_PV, stored_PV=stored_PV)
    assert loss_P.tolist() == pytest.approx([14 / 3, 4 / 2, 0.0])
    assert slope_PV.tolist() == [
        pytest.approx([2 / 3, 4 / 3, 2.0]),
        [-2.0, 0.0, 0.0],
        [0.0, 0.0, 0.0],
    ]


def test_without_stored_logits_the_loss_is_0() -> None:
    loss_P = StoredLogitsTerm(1.0).per_position(evidence(draw(3, 4)))
    assert loss_P.tolist() == [0.0] * 3
    assert loss_P.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_terms_compute_in_fp32(dtype: torch.dtype) -> None:
    rough_PV, stored_PV = draw(4, 3).to(dtype), draw(4, 3, seed=1)
    for term, about in (
        (StoredLogitsTerm(1.0), {"stored_PV": stored_PV}),
        (retain(), {"champion": Dense(draw(4, 2, seed=1))}),
    ):
        one: Any = term
        found_P = one.per_position(evidence(rough_PV, **about))
        assert found_P.dtype == torch.float32
        assert torch.equal(found_P, one.per_position(evidence(rough_PV.float(), **about)))


@pytest.mark.parametrize("edges", [[0, 1, 2, 3, 4, 5, 6], [0, 2, 6], [0, 3, 3, 6]], ids=str)
def test_any_split_into_micro_batches_gives_the_same_losses(edges: list[int]) -> None:
    student_PV, champion_PW, stored_PV = draw(6, 4), draw(6, 3, seed=1), draw(6, 4, seed=2)
    stored_PV[::2] = NAN
    stored_PV[1, 2:] = NAN
    for term in (retain(), StoredLogitsTerm(1.0)):
        one: Any = term
        whole_P = one.per_position(evidence(student_PV, Dense(champion_PW), stored_PV))
        parts = [
            one.per_position(evidence(student_PV[a:b], Dense(champion_PW[a:b]), stored_PV[a:b]))
            for a, b in pairwise(edges)
        ]
        torch.testing.assert_close(torch.cat(parts), whole_P, rtol=1e-6, atol=1e-7)
