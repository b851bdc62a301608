"""Heads grow without touching what they said before; nearest means as a linear layer.

Shapes: N examples, H features, C classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from tutelage.continual.heads import grow, last_layer, nearest_mean
from tutelage.errors import ModelError
from tutelage.models.load import load_classifier
from tutelage.testing.models import tiny_model

pytestmark = pytest.mark.unit

OLD, NEW = ["negative", "positive"], ["negative", "positive", "mixed", "none"]
IDS = torch.randint(5, 20, (6, 7), generator=torch.Generator().manual_seed(0))
FAMILIES = {
    "roberta": transformers.RobertaConfig,
    "electra": transformers.ElectraConfig,
    "albert": transformers.AlbertConfig,
}


def model_of(kind: str, folder: Path, labels: list[str] = OLD) -> Any:
    if kind not in FAMILIES:
        known: Any = kind
        return load_classifier(tiny_model(folder, "sequence-classification", labels, architecture=known))
    sizes = {"hidden_size": 16, "intermediate_size": 32, "embedding_size": 8, "num_hidden_layers": 1}
    config = FAMILIES[kind](
        vocab_size=50, num_attention_heads=2, id2label=dict(enumerate(labels)),
        label2id={label: n for n, label in enumerate(labels)}, **sizes,
    )  # fmt: skip
    auto: Any = transformers.AutoModelForSequenceClassification
    return auto.from_config(config).eval()


def logits(model: Any, ids: Tensor = IDS) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(input_ids=ids).logits
    return found


ALL = ["bert", "distilbert", *FAMILIES]


@pytest.mark.parametrize("kind", ALL)
def test_a_grown_head_keeps_the_old_rows_bit_by_bit_and_so_the_old_logits(kind: str, tmp_path: Path) -> None:
    """Logits to the rounding of a matrix product, whose order of adding goes by its width."""
    model = model_of(kind, tmp_path / "m")
    before, (_, old) = logits(model), last_layer(model)
    grow(model, NEW)
    after, (_, new) = logits(model), last_layer(model)
    assert after.shape == (6, 4)
    assert torch.equal(new.weight[:2], old.weight)
    assert torch.equal(new.bias[:2], old.bias)
    torch.testing.assert_close(after[:, :2], before, rtol=1e-5, atol=1e-7)
    assert new.bias[2:].tolist() == [0.0, 0.0]
    assert 0 < float(new.weight[2:].detach().std()) < 3 * model.config.initializer_range
    assert new.weight.requires_grad


@pytest.mark.parametrize("kind", ALL)
def test_a_grown_model_learns_and_loads_with_its_new_classes(kind: str, tmp_path: Path) -> None:
    model = model_of(kind, tmp_path / "m")
    grow(model, NEW)
    assert model.config.num_labels == model.num_labels == 4
    assert [model.config.id2label[n] for n in range(4)] == NEW
    assert model.config.label2id == {label: n for n, label in enumerate(NEW)}
    loss = model(input_ids=IDS, labels=torch.tensor([0, 1, 2, 3, 2, 3])).loss
    loss.backward()
    slope = last_layer(model)[1].weight.grad
    assert slope is not None
    assert float(slope.abs().sum(1).min()) > 0
    model.save_pretrained(tmp_path / "grown")
    again = load_classifier(tmp_path / "grown")
    assert torch.equal(logits(again), logits(model))
    assert [again.config.id2label[n] for n in range(4)] == NEW


def test_growing_leaves_the_callers_random_numbers_alone_and_goes_by_its_seed(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    model_of("bert", folder)
    rows = []
    for noise, seed in ((1, 3), (2, 3), (1, 4)):
        model = load_classifier(folder)
        torch.manual_seed(noise)
        before = torch.random.get_rng_state()
        grow(model, NEW, seed)
        assert torch.equal(torch.random.get_rng_state(), before)
        rows.append(last_layer(model)[1].weight.detach()[2:])
    assert torch.equal(rows[0], rows[1])
    assert not torch.equal(rows[0], rows[2])


@pytest.mark.parametrize(
    "labels", [["positive", "negative", "mixed"], ["negative"], ["mixed", "negative", "positive"], []]
)
def test_classes_that_do_not_continue_the_models_are_refused(labels: list[str], tmp_path: Path) -> None:
    model = model_of("bert", tmp_path / "m")
    with pytest.raises(ModelError, match="does not continue them") as found:
        grow(model, labels)
    assert found.value.fix == "new classes go behind the old ones"
    assert last_layer(model)[1].out_features == 2


def test_the_same_classes_change_nothing(tmp_path: Path) -> None:
    model = model_of("bert", tmp_path / "m")
    head = last_layer(model)[1]
    grow(model, OLD)
    assert last_layer(model)[1] is head


def test_a_head_can_grow_twice(tmp_path: Path) -> None:
    model = model_of("distilbert", tmp_path / "m")
    before = logits(model)
    grow(model, NEW[:3])
    middle = logits(model)
    grow(model, NEW)
    torch.testing.assert_close(logits(model)[:, :3], middle, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(middle[:, :2], before, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", ["distilbert", "roberta"])
def test_the_last_layer_is_found_where_hidden_and_classes_are_as_many(kind: str, tmp_path: Path) -> None:
    """16 classes beside layers of 16 outputs in the body and in the head."""
    model = model_of(kind, tmp_path / "m", [f"c{n}" for n in range(16)])
    name, layer = last_layer(model)
    assert name in ("classifier", "classifier.out_proj")
    assert layer.out_features == 16


def test_a_model_without_a_head_is_refused(tmp_path: Path) -> None:
    model = model_of("bert", tmp_path / "m")
    model.config.num_labels = 7
    with pytest.raises(ModelError, match="no linear layer of 7 outputs"):
        last_layer(model)


# Nearest mean


def features(model: Any, ids: Tensor) -> Tensor:
    """What the last layer reads."""
    seen: list[Tensor] = []
    handle = last_layer(model)[1].register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    logits(model, ids)
    handle.remove()
    return seen[0]


def texts(count: int, seed: int) -> Tensor:
    return torch.randint(5, 30, (count, 6), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", ["bert", "distilbert", "roberta"])
def test_the_head_says_the_class_whose_mean_is_nearest(kind: str, tmp_path: Path) -> None:
    """Against Euclidean distances in fp64, 60 texts; three batches, the last one short."""
    model = model_of(kind, tmp_path / "m", ["a", "b", "c"])
    known, labels = texts(20, 1), torch.arange(20) % 3
    labels[::7] = -1
    truth_NH = features(model, known).double()
    means_CH = torch.stack([truth_NH[labels == c].mean(0) for c in range(3)])
    parts = [slice(0, 8), slice(8, 16), slice(16, 20)]
    batches = [(lambda p=part: logits(model, known[p]), labels[part]) for part in parts]
    counts = nearest_mean(model, batches)
    assert counts == {c: int((labels == c).sum()) for c in range(3)}
    asked = texts(60, 2)
    distance_NC = torch.cdist(features(model, asked).double(), means_CH)
    assert torch.equal(logits(model, asked).argmax(-1), distance_NC.argmin(-1))
    layer = last_layer(model)[1]
    torch.testing.assert_close(layer.weight.detach(), means_CH.float(), rtol=1e-5, atol=1e-6)


def test_differences_of_logits_are_half_the_differences_of_squared_distances(tmp_path: Path) -> None:
    model = model_of("bert", tmp_path / "m", ["a", "b"])
    ids, labels = texts(10, 3), torch.arange(10) % 2
    nearest_mean(model, [(lambda: logits(model, ids), labels)])
    means_CH = last_layer(model)[1].weight.detach()
    squared_NC = torch.cdist(features(model, ids), means_CH).square()
    z_NC = logits(model, ids)
    torch.testing.assert_close(
        z_NC[:, 0] - z_NC[:, 1], (squared_NC[:, 1] - squared_NC[:, 0]) / 2, rtol=1e-3, atol=1e-4
    )


def test_a_class_without_a_text_is_named_and_the_head_stays(tmp_path: Path) -> None:
    model = model_of("bert", tmp_path / "m", ["red", "green", "blue"])
    before = last_layer(model)[1].weight.detach().clone()
    with pytest.raises(ModelError, match="no text of class green, blue to take a mean of") as found:
        nearest_mean(model, [(lambda: logits(model, texts(2, 1)), torch.tensor([0, -1]))])
    assert found.value.fix == "keep replay, or update.head=trained"
    assert torch.equal(last_layer(model)[1].weight, before)


def test_a_head_without_a_bias_is_refused(tmp_path: Path) -> None:
    model = model_of("bert", tmp_path / "m")
    model.classifier.bias = None
    with pytest.raises(ModelError, match="has no bias"):
        nearest_mean(model, [])
