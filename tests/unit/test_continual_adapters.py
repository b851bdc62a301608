"""The penalty of low-rank adapters is that of the merged weights, whatever factors make them.

Shapes: O outputs, I inputs, r rank.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from tutelage.config.models import LoraFinetune
from tutelage.continual.adapters import AdapterPenalty, plain_name
from tutelage.continual.heads import grow
from tutelage.models.load import load_classifier, merged, prepare_for_training
from tutelage.testing.models import tiny_model

pytestmark = pytest.mark.unit

Weights = dict[str, Tensor]
METHOD = {"type": "lora", "rank": 3, "alpha": 8, "dropout": 0.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_model(tmp_path_factory.mktemp("m") / "bert", "sequence-classification", layers=1)


def plain_weights(model: Any) -> Weights:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def random_strength(weights: Weights) -> Weights:
    generator = torch.Generator().manual_seed(1)
    return {name: torch.rand(value.shape, generator=generator) for name, value in weights.items()}


def random_center(weights: Weights) -> Weights:
    generator = torch.Generator().manual_seed(2)
    return {
        name: value + 0.1 * torch.randn(value.shape, generator=generator) for name, value in weights.items()
    }


@torch.no_grad()
def adapted(model: Any) -> Any:
    """The model under adapters that are somewhere, as is what is trained in full."""
    lora = prepare_for_training(model, LoraFinetune(**METHOD))
    generator = torch.Generator().manual_seed(3)
    for parameter in lora.parameters():
        if parameter.requires_grad:
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return lora


def held_names(lora: Any) -> set[str]:
    """Plain names of all that a step can move."""
    names = {
        plain_name(name) for name, p in lora.named_parameters() if p.requires_grad and "lora_" not in name
    }
    found = {f"{plain_name(n)}.weight" for n, m in lora.named_modules() if hasattr(m, "lora_A")}
    return names | found


def quadratic(theta: Weights, strength: Weights, center: Weights) -> float:
    return sum(
        0.5 * float((strength[n].double() * (theta[n] - center[n]).double().square()).sum()) for n in strength
    )


def test_the_penalty_is_the_quadratic_of_the_merged_weights(folder: str) -> None:
    """Over all weights that can move: what is frozen adds a constant, and is left out."""
    weights = plain_weights(load_classifier(folder))
    lora = adapted(load_classifier(folder))
    names = held_names(lora)
    assert "classifier.weight" in names
    assert sum(name.endswith("query.weight") for name in names) == 1
    strength, center = random_strength(weights), random_center(weights)
    found = AdapterPenalty(lora, strength, center, torch.device("cpu")).loss()
    theta = plain_weights(merged(lora))
    assert theta.keys() == weights.keys()
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(
        quadratic(theta, {name: strength[name] for name in names}, center), rel=1e-5
    )


def test_other_factors_of_the_same_model_have_the_same_penalty(folder: str) -> None:
    """(B R, R^-1 A) for a random invertible R."""
    weights = plain_weights(load_classifier(folder))
    lora = adapted(load_classifier(folder))
    held = AdapterPenalty(lora, random_strength(weights), random_center(weights), torch.device("cpu"))
    before = held.loss().item()
    mix_rr = torch.randn(3, 3, generator=torch.Generator().manual_seed(4)) + 2 * torch.eye(3)
    changed = 0
    with torch.no_grad():
        for module in lora.modules():
            if hasattr(module, "lora_A"):
                a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
                b.copy_(b @ mix_rr)
                a.copy_(torch.linalg.solve(mix_rr, a))
                changed += 1
    assert changed >= 2
    assert held.loss().item() == pytest.approx(before, rel=1e-4)


def test_the_gradient_of_factors_is_that_through_the_merged_weight(folder: str) -> None:
    """dP/dB = s G A^T and dP/dA = s B^T G, with G = k (W + s B A - theta*)."""
    weights = plain_weights(load_classifier(folder))
    lora = adapted(load_classifier(folder))
    strength, center = random_strength(weights), random_center(weights)
    AdapterPenalty(lora, strength, center, torch.device("cpu")).loss().backward()  # type: ignore[no-untyped-call]
    seen = 0
    for name, module in lora.named_modules():
        if not hasattr(module, "lora_A"):
            continue
        plain, scale = f"{plain_name(name)}.weight", module.scaling["default"]
        a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
        slope_OI = (strength[plain] * (weights[plain] + scale * b @ a - center[plain])).detach()
        torch.testing.assert_close(b.grad, scale * slope_OI @ a.detach().T, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(a.grad, scale * b.detach().T @ slope_OI, rtol=1e-4, atol=1e-5)
        assert module.base_layer.weight.grad is None
        seen += 1
    assert seen >= 2


def test_fresh_adapters_around_the_centre_have_no_penalty(folder: str) -> None:
    weights = plain_weights(load_classifier(folder))
    lora = prepare_for_training(load_classifier(folder), LoraFinetune(**METHOD))
    held = AdapterPenalty(lora, random_strength(weights), weights, torch.device("cpu"))
    assert held.loss().item() == 0.0


def test_the_head_that_is_trained_in_full_is_held_too(folder: str) -> None:
    weights = plain_weights(load_classifier(folder))
    lora = prepare_for_training(load_classifier(folder), LoraFinetune(**METHOD))
    held = AdapterPenalty(lora, random_strength(weights), weights, torch.device("cpu"))
    head = next(p for n, p in lora.named_parameters() if "modules_to_save" in n and n.endswith("weight"))
    with torch.no_grad():
        head.add_(0.5)
    held.loss().backward()  # type: ignore[no-untyped-call]
    assert head.grad is not None
    k = random_strength(weights)["classifier.weight"]
    assert held.loss().item() == pytest.approx(0.125 * k.sum().item(), rel=1e-5)
    torch.testing.assert_close(head.grad, 0.5 * k)


def test_rows_that_the_head_has_gained_are_free(folder: str) -> None:
    weights = plain_weights(load_classifier(folder))
    strength = random_strength(weights)
    model = load_classifier(folder)
    grow(model, ["negative", "positive", "mixed"])
    lora = prepare_for_training(model, LoraFinetune(**METHOD))
    held = AdapterPenalty(lora, strength, weights, torch.device("cpu"))
    assert held.loss().item() == 0.0
    head = next(p for n, p in lora.named_parameters() if "modules_to_save" in n and n.endswith("weight"))
    with torch.no_grad():
        head.add_(1.0)
    held.loss().backward()  # type: ignore[no-untyped-call]
    assert head.grad is not None
    torch.testing.assert_close(head.grad[:2], strength["classifier.weight"])
    assert head.grad[2].tolist() == [0.0] * 16


def test_weights_without_importance_are_free(folder: str) -> None:
    lora = adapted(load_classifier(folder))
    assert AdapterPenalty(lora, {}, {}, torch.device("cpu")).loss().item() == 0.0


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False:UserWarning")
def test_a_transposed_weight_is_met_by_a_transposed_product() -> None:
    """GPT-2 keeps weights as [I, O]: square ones would be wrong without a word."""
    family: Any = transformers.GPT2Config
    config = family(
        vocab_size=30,
        n_embd=8,
        n_layer=1,
        n_head=2,
        n_positions=16,
        num_labels=2,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
    )
    auto: Any = transformers.AutoModelForSequenceClassification
    torch.manual_seed(0)
    model = auto.from_config(config).eval()
    weights = plain_weights(model)
    method = LoraFinetune(**METHOD, target_modules=["c_attn", "attn.c_proj"])
    lora = prepare_for_training(model, method)
    with torch.no_grad():
        for parameter in lora.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn(parameter.shape))
    names = held_names(lora)
    strength = random_strength(weights)
    found = AdapterPenalty(lora, strength, weights, torch.device("cpu")).loss().item()
    theta = plain_weights(merged(lora))
    assert found == pytest.approx(quadratic(theta, {n: strength[n] for n in names}, weights), rel=1e-4)


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        (
            "base_model.model.bert.encoder.layer.0.query.base_layer.weight",
            "bert.encoder.layer.0.query.weight",
        ),
        ("base_model.model.classifier.modules_to_save.default.bias", "classifier.bias"),
        ("bert.pooler.dense.weight", "bert.pooler.dense.weight"),
    ],
)
def test_plain_names_are_those_of_the_model_without_adapters(name: str, plain: str) -> None:
    assert plain_name(name) == plain
