"""Cutting and freezing encoder layers, on every architecture that has a list of them. Shapes: L layers."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tutelage.config.models import FullFinetune, PartialFinetune
from tutelage.errors import ModelError
from tutelage.models.layers import encoder_layers, freeze, keep_layers
from tutelage.models.load import load_classifier, load_tokenizer, prepare_for_training
from tutelage.testing import tiny_classifier

pytestmark = pytest.mark.unit

TEXT = "books_positive_1 books_word_2 books_word_3"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    top = tmp_path_factory.mktemp("layers")
    kinds: tuple[Any, ...] = ("bert", "distilbert", "albert")
    return {kind: tiny_classifier(top / kind, architecture=kind, layers=4) for kind in kinds}


@pytest.fixture(params=["bert", "distilbert"])
def folder(request: pytest.FixtureRequest, folders: dict[str, str]) -> str:
    return folders[request.param]


def logits(model: Any, folder: str) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(**load_tokenizer(folder)([TEXT], return_tensors="pt")).logits
    return found


def trainable(model: Any) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_the_layers_are_found(folder: str) -> None:
    parent, name, layers = encoder_layers(load_classifier(folder))
    assert len(layers) == 4
    assert getattr(parent, name) is layers


def test_a_student_of_all_layers_is_the_model(folder: str) -> None:
    whole, kept = load_classifier(folder), load_classifier(folder)
    keep_layers(kept, [0, 1, 2, 3])
    assert torch.equal(logits(kept, folder), logits(whole, folder))


def test_the_kept_layers_keep_their_weights_and_order_and_the_config_says_how_many(folder: str) -> None:
    whole, cut = load_classifier(folder), load_classifier(folder)
    keep_layers(cut, [0, 3])
    before, after = encoder_layers(whole)[2], encoder_layers(cut)[2]
    assert len(after) == cut.config.num_hidden_layers == 2
    for old, new in ((0, 0), (3, 1)):
        for first, second in zip(before[old].parameters(), after[new].parameters(), strict=True):
            assert torch.equal(first, second)
    assert not torch.equal(logits(cut, folder), logits(whole, folder))


def test_a_cut_model_is_saved_and_loaded_as_what_it_is(folder: str, tmp_path: Any) -> None:
    cut = load_classifier(folder)
    keep_layers(cut, [1, 2])
    cut.save_pretrained(tmp_path)
    again = load_classifier(tmp_path)
    assert again.config.num_hidden_layers == 2
    assert torch.equal(logits(again, folder), logits(cut, folder))


def test_layers_that_are_not_there_are_refused(folder: str) -> None:
    with pytest.raises(ModelError, match=r"student\.layers \[0, 4\]: the model has 4"):
        keep_layers(load_classifier(folder), [0, 4])


@pytest.mark.parametrize("layers", [0, 1, 3, 4])
def test_freezing_leaves_the_upper_layers_and_the_head(folder: str, layers: int) -> None:
    model = load_classifier(folder)
    freeze(model, embeddings=True, layers=layers)
    _, _, blocks = encoder_layers(model)
    for number, block in enumerate(blocks):
        assert all(parameter.requires_grad == (number >= layers) for parameter in block.parameters())
    left = trainable(model)
    assert not any("embeddings" in name for name in left)
    assert any(name.startswith("classifier") for name in left)


def test_embeddings_can_stay_trainable(folder: str) -> None:
    model = load_classifier(folder)
    freeze(model, embeddings=False, layers=2)
    assert any("embeddings" in name for name in trainable(model))


def test_more_frozen_layers_than_there_are_is_refused(folder: str) -> None:
    with pytest.raises(ModelError, match="freeze_layers 5: the model has 4 layers") as caught:
        freeze(load_classifier(folder), embeddings=True, layers=5)
    assert caught.value.fix == "freeze_layers=4 or less"


def test_frozen_weights_get_no_gradient(folder: str) -> None:
    model = load_classifier(folder)
    freeze(model, embeddings=True, layers=2)
    model(**load_tokenizer(folder)([TEXT], return_tensors="pt")).logits.sum().backward()
    moved = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert moved == trainable(model)
    assert 0 < len(moved) < len(list(model.parameters()))


def test_full_trains_every_weight_and_partial_counts_the_layers_of_the_cut_model(folder: str) -> None:
    full = prepare_for_training(load_classifier(folder), FullFinetune())
    assert len(trainable(full)) == len(list(full.parameters()))
    partial = PartialFinetune(type="partial", freeze_layers=1)
    model = prepare_for_training(load_classifier(folder), partial, keep=[0, 3])
    blocks = encoder_layers(model)[2]
    assert [any(p.requires_grad for p in block.parameters()) for block in blocks] == [False, True]


@pytest.mark.parametrize(
    "change",
    [lambda model: keep_layers(model, [0, 1]), lambda model: freeze(model, embeddings=True, layers=1)],
    ids=["keep", "freeze"],
)
def test_an_architecture_that_shares_one_layer_is_an_error_that_says_what_to_leave_out(
    folders: dict[str, str], change: Any
) -> None:
    model = load_classifier(folders["albert"])
    with pytest.raises(ModelError, match="AlbertForSequenceClassification has no list of 4") as caught:
        change(model)
    assert "freeze_layers" in caught.value.fix


def test_albert_trains_in_full_and_with_frozen_embeddings(folders: dict[str, str]) -> None:
    model = load_classifier(folders["albert"])
    freeze(model, embeddings=True, layers=0)
    assert 0 < len(trainable(model)) < len(list(model.parameters()))
