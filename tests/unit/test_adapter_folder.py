"""A folder that is only an adapter is the model that it makes of its base, or an error that names it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from actors.fetched import model_folder
from tutelage.config.task import TaskName
from tutelage.errors import ModelError
from tutelage.models.describe import describe
from tutelage.models.load import load_classifier, load_tokenizer, quiet_peft
from tutelage.testing import LABELS, sentences, tiny_family

pytestmark = pytest.mark.unit

TASK: TaskName = "sequence-classification"


def adapter_of(base: str, folder: Path, **config: Any) -> Any:
    """A trained adapter in `folder`; returns the adapted model."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification

    auto: Any = AutoModelForSequenceClassification
    chosen: Any = LoraConfig(task_type="SEQ_CLS", r=2, lora_alpha=8, target_modules=["query"], **config)
    with quiet_peft():
        model = get_peft_model(auto.from_pretrained(base), chosen)
    with torch.no_grad():
        for weight in (weight for weight in model.parameters() if weight.requires_grad):
            weight.normal_(0, 0.5)
    model.eval().save_pretrained(folder)
    return model


def logits(model: Any, folder: str) -> torch.Tensor:
    rows = load_tokenizer(folder)(sentences(4), padding=True, return_tensors="pt")
    with torch.inference_mode():
        found: torch.Tensor = model(**rows).logits
    return found


@pytest.fixture
def base(tmp_path: Path) -> str:
    return tiny_family("bert", tmp_path / "base")


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_an_adapter_answers_as_with_its_base_and_is_merged_once(base: str, tmp_path: Path) -> None:
    model = adapter_of(base, tmp_path / "adapter")
    folder = model_folder(str(tmp_path / "adapter"), TASK, tmp_path / "home")
    torch.testing.assert_close(
        logits(load_classifier(folder), folder), logits(model, base), rtol=1e-4, atol=1e-4
    )
    assert describe(folder).labels == list(LABELS)
    made = (Path(folder) / "model.safetensors").stat().st_mtime_ns
    assert model_folder(str(tmp_path / "adapter"), TASK, tmp_path / "home") == folder
    assert (Path(folder) / "model.safetensors").stat().st_mtime_ns == made


def test_a_head_of_other_classes_is_the_adapters(base: str, tmp_path: Path) -> None:
    """The base has two classes, the adapter's head three; only a config of its own names them."""
    wide = tiny_family("bert", tmp_path / "wide", ["a", "b", "c"])
    model = adapter_of(wide, tmp_path / "adapter")
    edit(tmp_path / "adapter", base_model_name_or_path=base)
    folder = model_folder(str(tmp_path / "adapter"), TASK, tmp_path / "home")
    assert describe(folder).labels == ["LABEL_0", "LABEL_1", "LABEL_2"]
    torch.testing.assert_close(
        logits(load_classifier(folder), folder), logits(model, base), rtol=1e-4, atol=1e-4
    )
    shutil.copy2(Path(wide) / "config.json", tmp_path / "adapter")
    named = model_folder(str(tmp_path / "adapter"), TASK, tmp_path / "home")
    assert describe(named).labels == ["a", "b", "c"]


def test_a_base_is_looked_for_beside_the_adapter(base: str, tmp_path: Path) -> None:
    adapter_of(base, tmp_path / "adapter")
    edit(tmp_path / "adapter", base_model_name_or_path="../base")
    assert describe(model_folder(str(tmp_path / "adapter"), TASK, tmp_path / "home")).layers == 2


@pytest.mark.parametrize("name", ["/none/such", "", "./none"])
def test_a_base_that_is_not_here_is_named(base: str, tmp_path: Path, name: str) -> None:
    adapter_of(base, tmp_path / "adapter")
    edit(tmp_path / "adapter", base_model_name_or_path=name)
    with pytest.raises(ModelError, match=f"is an adapter of '{name}'") as caught:
        model_folder(str(tmp_path / "adapter"), TASK, tmp_path / "home")
    assert "base_model_name_or_path" in caught.value.fix
    assert not (tmp_path / "home" / "models").exists()


def test_another_base_than_its_own_is_refused(base: str, tmp_path: Path) -> None:
    adapter_of(base, tmp_path / "adapter")
    other = tiny_family("bert", tmp_path / "other", options={"num_hidden_layers": 3})
    edit(tmp_path / "adapter", base_model_name_or_path=other)
    with pytest.raises(ModelError, match="does not fit its base"):
        model_folder(str(tmp_path / "adapter"), TASK, tmp_path / "home")
    assert not list((tmp_path / "home" / "models").glob("merged*"))


def test_an_adapter_without_a_head_needs_a_base_that_has_one(base: str, tmp_path: Path) -> None:
    """Else its answers would be random."""
    adapter_of(base, tmp_path / "adapter")
    from safetensors.torch import load_file, save_file

    weights = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "classifier" not in name}
    save_file(kept, tmp_path / "adapter" / "adapter_model.safetensors")
    edit(tmp_path / "adapter", task_type=None, modules_to_save=None)
    assert describe(model_folder(str(tmp_path / "adapter"), TASK, tmp_path / "home")).layers == 2
    load_classifier(base).base_model.save_pretrained(tmp_path / "body")
    load_tokenizer(base).save_pretrained(tmp_path / "body")
    edit(tmp_path / "adapter", base_model_name_or_path=str(tmp_path / "body"))
    with pytest.raises(ModelError, match="would be random"):
        model_folder(str(tmp_path / "adapter"), TASK, tmp_path / "home")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"peft_type": "PROMPT_TUNING"}, "kind PROMPT_TUNING cannot become part"),
        ({"task_type": "CAUSAL_LM"}, "an adapter for causal-lm, and the job is sequence-classification"),
    ],
)
def test_an_adapter_that_cannot_be_used_says_why(
    base: str, tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    adapter_of(base, tmp_path / "adapter")
    edit(tmp_path / "adapter", **changes)
    with pytest.raises(ModelError, match=problem):
        model_folder(str(tmp_path / "adapter"), TASK, tmp_path / "home")


def test_pickled_weights_and_a_whole_model_beside_it_are_refused(base: str, tmp_path: Path) -> None:
    adapter_of(base, tmp_path / "adapter")
    shutil.copy2(Path(base) / "model.safetensors", tmp_path / "adapter")
    with pytest.raises(ModelError, match=r"holds an adapter .* and a whole model"):
        model_folder(str(tmp_path / "adapter"), TASK, tmp_path / "home")
    (tmp_path / "adapter" / "model.safetensors").unlink()
    (tmp_path / "adapter" / "adapter_model.safetensors").rename(tmp_path / "adapter" / "adapter_model.bin")
    with pytest.raises(ModelError, match="pickled weights"):
        model_folder(str(tmp_path / "adapter"), TASK, tmp_path / "home")
