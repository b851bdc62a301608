"""Students built anew: every family to the shape that was asked for, and started from the base where it fits.

Shapes: V vocabulary, d the base's width, w the student's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tutelage.config.architecture import Architecture
from tutelage.config.models import FullFinetune, LoraFinetune, PartialFinetune
from tutelage.config.task import SequenceClassification
from tutelage.errors import ModelError
from tutelage.models.architecture import build, check_method, read_config, student_config, weights_of
from tutelage.models.initial import new_student, principal, spread_layers
from tutelage.models.layers import encoder_layers
from tutelage.models.load import load_model, prepare_for_training
from tutelage.testing import LABELS, tiny_classifier

pytestmark = pytest.mark.unit

TASK = SequenceClassification(labels=list(LABELS))
FAMILIES = ("bert", "distilbert", "albert", "electra", "mobilebert")
DEEP, WIDE = 4, 32
"""Layers and width of the base."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny bert of four layers."""
    folder = tmp_path_factory.mktemp("architecture") / "base"
    return tiny_classifier(folder, layers=DEEP, hidden=WIDE, seed=4)


def shape(family: str = "bert", **changes: Any) -> Architecture:
    return Architecture.model_validate(
        {"family": family, "depth": 2, "width": 16, "heads": 2, "feed_forward": 24, **changes}
    )


def student(base: str, one: Architecture, seed: int = 0, method: Any = None) -> Any:
    return new_student(TASK, base, None, one, method or FullFinetune(), seed=seed)


def weights(model: Any) -> dict[str, Any]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_answers_in_the_shape_that_was_asked_for(base: str, family: str) -> None:
    one = shape(family)
    model = student(base, one)
    config = model.config
    assert (config.model_type, config.hidden_size, config.num_hidden_layers) == (family, 16, 2)
    assert config.num_attention_heads == 2
    assert model.get_input_embeddings().weight.shape[0] == read_config(base).vocab_size
    ids_BT = torch.tensor([[1, 2, 3]])
    assert model(input_ids=ids_BT, attention_mask=torch.ones_like(ids_BT)).logits.shape == (1, len(LABELS))
    config = student_config(one, base, TASK)
    assert weights_of(config, TASK.type) == sum(p.numel() for p in build(config, TASK.type).parameters())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"family": "brt"}, "no 'brt' for sequence-classification"),
        ({"embedding": 8}, "bert has no factorised embeddings"),
        ({"options": {"hidden_actt": "relu"}}, "did you mean 'hidden_act'"),
        ({"options": {"hidden_size": 8}}, "write student.architecture.width instead"),
        ({"options": {"vocab_size": 8}}, "comes from student.model"),
        ({"family": "mobilebert", "width": 24, "heads": 4}, "does not divide MobileBERT's bottleneck"),
    ],
)
def test_a_shape_that_no_family_has_is_refused(base: str, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=r"student\.architecture") as caught:
        student_config(shape(**changes), base, TASK)
    assert words in str(caught.value)


def test_layers_that_fit_are_the_base_s_first_and_last_and_between(base: str) -> None:
    whole = load_model(base, TASK.type, list(LABELS))
    feed = read_config(base).intermediate_size
    heads = read_config(base).num_attention_heads
    model = student(base, shape(width=WIDE, heads=heads, feed_forward=feed))
    assert spread_layers(2, DEEP) == [0, DEEP - 1]
    assert spread_layers(3, 6) == [0, 3, 5]
    for mine, index in zip(encoder_layers(model)[2], (0, DEEP - 1), strict=True):
        theirs = encoder_layers(whole)[2][index].state_dict()
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in mine.state_dict().items())
    assert torch.equal(model.get_input_embeddings().weight, whole.get_input_embeddings().weight)


def test_narrower_embeddings_keep_what_the_base_s_say_of_each_other(base: str) -> None:
    """Inner products of tokens: PCA keeps more of them than 16 random directions do."""
    table_Vd = load_model(base, TASK.type, list(LABELS)).get_input_embeddings().weight.detach()
    mine_Vw = student(base, shape()).get_input_embeddings().weight.detach()
    wanted = table_Vd @ table_Vd.T

    def error(rows: Any) -> float:
        products = rows @ rows.T
        scale = (products * wanted).sum() / products.pow(2).sum()
        return float((scale * products - wanted).norm())

    random_dw = torch.linalg.qr(torch.randn(WIDE, 16, generator=torch.Generator().manual_seed(1))).Q
    assert error(mine_Vw) < 0.9 * error(table_Vd @ random_dw)
    assert error(mine_Vw) == pytest.approx(error(table_Vd @ principal(table_Vd, 16)), rel=1e-3)


def test_the_start_is_a_function_of_the_seed_alone(base: str) -> None:
    before = torch.get_rng_state()
    one, same, other = (weights(student(base, shape("albert"), seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_without_a_shape_the_student_is_the_base_cut_and_frozen_as_before(base: str) -> None:
    method = PartialFinetune(type="partial", freeze_layers=1)
    mine = new_student(TASK, base, [0, 2], None, method)
    theirs = prepare_for_training(load_model(base, TASK.type, list(LABELS)), method, [0, 2])
    assert [(n, p.requires_grad) for n, p in mine.named_parameters()] == [
        (n, p.requires_grad) for n, p in theirs.named_parameters()
    ]
    assert all(torch.equal(tensor, weights(theirs)[name]) for name, tensor in weights(mine).items())


@pytest.mark.parametrize(
    "method",
    [LoraFinetune(type="lora"), PartialFinetune(type="partial", freeze_layers=1)],
    ids=["lora", "partial"],
)
def test_random_layers_are_not_left_as_they_are(base: str, method: Any) -> None:
    with pytest.raises(ModelError, match="start at random here"):
        check_method(method, student_config(shape(), base, TASK), read_config(base))


def test_a_shape_is_kept_by_a_saved_student(base: str, tmp_path: Path) -> None:
    model = student(base, shape("albert", embedding=8))
    model.save_pretrained(tmp_path)
    again = load_model(str(tmp_path), TASK.type, list(LABELS))
    assert all(torch.equal(tensor, weights(again)[name]) for name, tensor in weights(model).items())
