"""The tables that a student built anew starts from: tokens, positions and segments of its base.

Shapes: V vocabulary, T positions, d the base's width, w the student's, e rank of a factorised table.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tutelage.config.architecture import Architecture
from tutelage.config.models import FullFinetune
from tutelage.config.task import SequenceClassification
from tutelage.models.initial import new_student, principal
from tutelage.models.load import load_body
from tutelage.testing import LABELS, tiny_classifier

pytestmark = pytest.mark.unit

WIDE = 32


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_classifier(tmp_path_factory.mktemp("initial") / "base", hidden=WIDE, seed=6)


def started(base: str, family: str, width: int, **sizes: Any) -> Any:
    shape = Architecture(family=family, depth=1, width=width, heads=2, **sizes)
    task = SequenceClassification(labels=list(LABELS))
    return new_student(task, base, None, shape, FullFinetune()).base_model


def tokens(model: Any) -> Tensor:
    return model.get_input_embeddings().weight.detach()


def kept(table_Vd: Tensor, directions_dr: Tensor) -> float:
    """Share of the squares of a table that lies in these directions."""
    return float((table_Vd @ directions_dr).pow(2).sum() / table_Vd.pow(2).sum())


def test_principal_directions_keep_more_than_any_others_and_are_orthonormal(base: str) -> None:
    table_Vd = tokens(load_body(base))
    ours_dr = principal(table_Vd, 8)
    torch.testing.assert_close(ours_dr.T @ ours_dr, torch.eye(8))
    best = torch.linalg.svdvals(table_Vd).pow(2)
    assert kept(table_Vd, ours_dr) == pytest.approx(float(best[:8].sum() / best.sum()), rel=1e-5)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        assert kept(table_Vd, torch.linalg.qr(torch.randn(WIDE, 8, generator=generator)).Q) < kept(
            table_Vd, ours_dr
        )


@pytest.mark.parametrize(("width", "same"), [(16, False), (48, True)])
def test_a_token_has_the_base_s_size_in_any_width(base: str, width: int, same: bool) -> None:
    """A wider table keeps every inner product; a narrower one the size of a number alone."""
    old_Vd, new_Vw = tokens(load_body(base)), tokens(started(base, "bert", width))
    sizes = [float(table.pow(2).mean(1).sqrt().mean()) for table in (old_Vd, new_Vw)]
    assert sizes[1] == pytest.approx(sizes[0], rel=1e-5)
    products = [table @ table.T / table.shape[1] for table in (old_Vd, new_Vw)]
    assert torch.allclose(*products, atol=1e-6) is same


@pytest.mark.parametrize("family", ["albert", "electra", "mobilebert"])
def test_a_factorised_table_and_its_matrix_give_the_best_table_of_their_rank(base: str, family: str) -> None:
    model = started(base, family, WIDE, embedding=8)
    old_Vd = tokens(load_body(base))
    lift_we = {
        "albert": lambda: model.encoder.embedding_hidden_mapping_in.weight,
        "electra": lambda: model.embeddings_project.weight,
        "mobilebert": lambda: model.embeddings.embedding_transformation.weight[:, 8:16],
    }[family]().detach()
    again_Vd = tokens(model) @ lift_we.T
    again_Vd = again_Vd * (again_Vd * old_Vd).sum() / again_Vd.pow(2).sum()
    least = torch.linalg.svdvals(old_Vd).pow(2)[8:].sum().sqrt()
    torch.testing.assert_close((again_Vd - old_Vd).norm(), least, rtol=1e-4, atol=0)


def test_mobilebert_starts_from_this_token_and_not_its_neighbours(base: str) -> None:
    weight_w3e = started(base, "mobilebert", 16, embedding=8).embeddings.embedding_transformation.weight
    assert [bool(weight_w3e[:, start : start + 8].any()) for start in (0, 8, 16)] == [False, True, False]


def test_a_family_without_segments_starts_from_positions_that_hold_the_first_one(base: str) -> None:
    old, new = load_body(base).embeddings, started(base, "distilbert", WIDE).embeddings
    wanted_Td = old.position_embeddings.weight + old.token_type_embeddings.weight[0]
    assert torch.equal(new.position_embeddings.weight, wanted_Td)
    assert torch.equal(new.word_embeddings.weight, old.word_embeddings.weight)


def test_a_family_that_counts_positions_behind_padding_has_as_many_and_reads_the_same_first_one(
    base: str,
) -> None:
    old, model = load_body(base), started(base, "roberta", WIDE)
    first = model.embeddings.position_embeddings.padding_idx + 1
    new_Td = model.embeddings.position_embeddings.weight
    assert torch.equal(new_Td[first:], old.embeddings.position_embeddings.weight)
    longest = old.config.max_position_embeddings
    assert model(input_ids=torch.full((1, longest), 5)).last_hidden_state.shape == (1, longest, WIDE)
