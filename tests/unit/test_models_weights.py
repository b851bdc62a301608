"""A model is loaded with all its weights or not at all; only a head that is asked for starts at random."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tutelage.errors import ModelError
from tutelage.models.load import load_body, load_classifier, load_model
from tutelage.testing import each_config, tiny_family, tiny_model

pytestmark = pytest.mark.unit

LABELS = ["negative", "positive"]
Weights = dict[str, Tensor]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(tiny_family("bert", tmp_path_factory.mktemp("weights") / "bert", LABELS))


def changed(bert: Path, folder: Path, change: Callable[[Weights], Weights], **config: Any) -> Path:
    """The folder again with other weights, and values of the config."""
    folder.mkdir()
    save_file(change(load_file(bert / "model.safetensors")), folder / "model.safetensors", {"format": "pt"})
    known = json.loads((bert / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(known | config))
    return folder


def renamed(old: str, new: str) -> Callable[[Weights], Weights]:
    return lambda weights: {
        (new + name.removeprefix(old) if name.startswith(old) else name): tensor
        for name, tensor in weights.items()
    }


def without(part: str) -> Callable[[Weights], Weights]:
    return lambda weights: {name: tensor for name, tensor in weights.items() if part not in name}


@pytest.mark.parametrize("prefix", ["module.", "model.", "net.model."])
def test_weights_under_the_name_of_a_wrapper_are_refused_and_the_wrapper_is_named(
    bert: Path, tmp_path: Path, prefix: str
) -> None:
    folder = changed(bert, tmp_path / "m", renamed("", prefix))
    with pytest.raises(ModelError, match="do not fit BertForSequenceClassification") as caught:
        load_classifier(folder, LABELS)
    assert f"under '{prefix}'" in caught.value.fix


@pytest.mark.parametrize(
    "change",
    [
        without("classifier"),
        renamed("classifier.", "fc."),
        without("pooler"),
        without("layer.1.output.dense.weight"),
        without("word_embeddings"),
    ],
    ids=["no head", "head of another name", "no pooler", "one missing", "no embedding"],
)
def test_a_weight_that_is_missing_is_refused(
    bert: Path, tmp_path: Path, change: Callable[[Weights], Weights]
) -> None:
    with pytest.raises(ModelError, match=r"not in the files .*would be random"):
        load_classifier(changed(bert, tmp_path / "m", change), LABELS)


def test_layers_that_the_config_does_not_know_are_refused(bert: Path, tmp_path: Path) -> None:
    """A model cut by its config alone would answer, wrongly."""
    folder = changed(bert, tmp_path / "m", dict, num_hidden_layers=1)
    for new_head in (False, True):
        with pytest.raises(ModelError, match=r"not its own .*layer.1."):
            load_model(folder, "sequence-classification", LABELS, new_head=new_head)
    with pytest.raises(ModelError, match=r"not its own .*layer.1."):
        load_body(folder)


@pytest.mark.parametrize("part", ["cls.predictions.bias", "bert.embeddings.position_ids", "lm_head.bias"])
def test_what_is_left_of_pretraining_does_no_harm(bert: Path, tmp_path: Path, part: str) -> None:
    folder = changed(bert, tmp_path / "m", lambda weights: {**weights, part: torch.zeros(2)})
    found, whole = load_classifier(folder, LABELS), load_classifier(bert, LABELS)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor)


@pytest.mark.parametrize("count", [2, 3])
def test_a_head_is_made_anew_where_that_is_asked_for(bert: Path, tmp_path: Path, count: int) -> None:
    """Without a head, or with one for other classes."""
    labels = [f"class {n}" for n in range(count)]
    bare = changed(bert, tmp_path / "m", without("classifier"))
    for folder in (bare, bert):
        model = load_model(folder, "sequence-classification", labels, new_head=True)
        assert model.classifier.weight.shape[0] == count
        given, whole = model.bert.state_dict(), load_body(bert).state_dict()
        assert all(torch.equal(given[name], tensor) for name, tensor in whole.items())


def test_a_body_that_is_not_whole_is_no_base(bert: Path, tmp_path: Path) -> None:
    folder = changed(bert, tmp_path / "m", without("layer.0.attention.self.query"))
    with pytest.raises(ModelError, match="2 of its weights are not in the files"):
        load_model(folder, "sequence-classification", LABELS, new_head=True)
    with pytest.raises(ModelError, match="2 of its weights are not in the files"):
        load_body(folder)


@pytest.mark.parametrize("name", each_config())
def test_every_family_is_read_whole_and_is_a_base_without_its_head(name: str, tmp_path: Path) -> None:
    folder = tiny_family(name, tmp_path / "m", LABELS)
    model = load_classifier(folder, LABELS)
    model.base_model.save_pretrained(tmp_path / "body")
    again = load_model(tmp_path / "body", "sequence-classification", LABELS, new_head=True)
    given = again.base_model.state_dict()
    assert all(torch.equal(given[key], value) for key, value in model.base_model.state_dict().items())
    with pytest.raises(ModelError, match="would be random"):
        load_classifier(tmp_path / "body", LABELS)


def test_a_language_model_without_its_output_layer_is_refused(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "lm", "causal-lm")
    load_body(folder).save_pretrained(tmp_path / "body")
    with pytest.raises(ModelError, match=r"lm_head\.weight"):
        load_model(tmp_path / "body", "causal-lm")
