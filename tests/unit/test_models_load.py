"""Loading classifiers safely, LoRA and its merging, dropout, and the floating type of a training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tutelage.config.models import LoraFinetune
from tutelage.config.train import Precision
from tutelage.errors import ModelError
from tutelage.models.load import load_classifier, load_model, load_tokenizer, merged, prepare_for_training
from tutelage.models.precision import cpu_flags, resolve_precision
from tutelage.testing import LABELS, tiny_classifier, tiny_texts

pytestmark = pytest.mark.unit

TEXTS = [row["text"] for row in tiny_texts(8)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    top = tmp_path_factory.mktemp("load")
    kinds: tuple[Any, ...] = ("bert", "distilbert")
    return {kind: Path(tiny_classifier(top / kind, architecture=kind)) for kind in kinds}


@pytest.fixture
def bert(folders: dict[str, Path]) -> Path:
    return folders["bert"]


@pytest.fixture(params=["bert", "distilbert"])
def folder(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Path:
    return folders[request.param]


def logits(model: Any, folder: Path) -> torch.Tensor:
    tokens = load_tokenizer(folder)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        found: torch.Tensor = model.eval()(**tokens).logits
    return found


# Loading


def test_a_model_is_loaded_in_fp32_for_evaluation(bert: Path, tmp_path: Path) -> None:
    half = load_classifier(bert).to(torch.bfloat16)
    half.save_pretrained(tmp_path)
    model = load_classifier(tmp_path)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert not model.training


@pytest.mark.parametrize("shift", range(0, 64, 8))
def test_the_same_weights_at_another_place_of_a_file_give_the_same_bits(
    shift: int, bert: Path, tmp_path: Path
) -> None:
    """Their file maps them at a multiple of 8 bytes; they are used at a multiple of 64."""
    folder = tmp_path / "moved"
    shutil.copytree(bert, folder)
    weights = load_file(folder / "model.safetensors")
    save_file(weights, folder / "model.safetensors", {"format": "pt", "room": "x" * shift})
    model = load_classifier(folder)
    assert {tensor.data_ptr() % 64 for tensor in (*model.parameters(), *model.buffers())} == {0}
    assert torch.equal(logits(model, bert), logits(load_classifier(bert), bert))


def test_a_folder_without_a_head_gets_one_with_the_labels_of_the_task(bert: Path, tmp_path: Path) -> None:
    load_classifier(bert).base_model.save_pretrained(tmp_path)
    model = load_model(tmp_path, "sequence-classification", ["a", "b", "c"], new_head=True)
    assert model.config.id2label == {0: "a", 1: "b", 2: "c"}
    assert model.config.label2id == {"a": 0, "b": 1, "c": 2}
    assert model.classifier.out_features == 3


def test_a_new_head_depends_on_the_seed_alone(bert: Path, tmp_path: Path) -> None:
    load_classifier(bert).base_model.save_pretrained(tmp_path)
    heads = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        model = load_model(tmp_path, "sequence-classification", list(LABELS), new_head=True)
        heads.append(model.classifier.weight)
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_a_trained_head_of_another_size_is_refused(bert: Path) -> None:
    with pytest.raises(ModelError, match="cannot be loaded as a classifier"):
        load_classifier(bert, ["a", "b", "c"])


def test_pickled_weights_are_not_read(bert: Path, tmp_path: Path) -> None:
    shutil.copytree(bert, tmp_path / "pickled")
    (tmp_path / "pickled" / "model.safetensors").unlink()
    torch.save(load_classifier(bert).state_dict(), tmp_path / "pickled" / "pytorch_model.bin")
    with pytest.raises(ModelError, match="cannot be loaded as a classifier"):
        load_classifier(tmp_path / "pickled")


def test_a_folder_that_brings_its_own_code_does_not_run_it(bert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "coded"
    shutil.copytree(bert, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "unheard-of",
        "auto_map": {"AutoConfig": "own.Own", "AutoModelForSequenceClassification": "own.Own"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Own: pass\n")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_classifier(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"\xff" * 100], ids=["empty", "no safetensors"])
def test_broken_weights_are_an_error_that_names_the_folder(
    bert: Path, tmp_path: Path, content: bytes
) -> None:
    shutil.copytree(bert, tmp_path / "broken")
    (tmp_path / "broken" / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match="broken: cannot be loaded as a classifier"):
        load_classifier(tmp_path / "broken")


@pytest.mark.parametrize("gone", ["tokenizer.json", "tokenizer*"])
def test_a_folder_without_a_tokenizer_is_an_error_that_names_it(
    folder: Path, tmp_path: Path, gone: str
) -> None:
    """transformers would make one of special tokens alone, to which every text is the same."""
    shutil.copytree(folder, tmp_path / "mute", ignore=shutil.ignore_patterns(gone))
    with pytest.raises(ModelError, match="mute: no tokenizer") as caught:
        load_tokenizer(tmp_path / "mute")
    assert "beside the model" in caught.value.fix


def test_rows_are_not_tokenised_without_a_tokenizer(bert: Path, tmp_path: Path) -> None:
    from tests.unit.data_samples import job, labelled
    from tutelage.data.rows import read_rows
    from tutelage.data.tokens import tokenise

    shutil.copytree(bert, tmp_path / "mute", ignore=shutil.ignore_patterns("tokenizer*"))
    rows = read_rows(job({"one": {"path": labelled(tmp_path / "one.parquet", 20)}}), tmp_path)
    with pytest.raises(ModelError, match="mute: no tokenizer"):
        tokenise(rows, str(tmp_path / "mute"), 16, tmp_path)


# Dropout


@pytest.mark.parametrize("rate", [0.0, 0.25])
def test_dropout_is_set_everywhere(folder: Path, rate: float) -> None:
    model = load_classifier(folder, dropout=rate)
    found = {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)}
    assert found == {rate}


def test_dropout_0_makes_training_mode_the_same_as_evaluation(folder: Path) -> None:
    model = load_classifier(folder, dropout=0.0)
    tokens = load_tokenizer(folder)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        assert torch.equal(model.train()(**tokens).logits, model.eval()(**tokens).logits)


@pytest.mark.parametrize("kind", ["deberta", "modernbert", "electra", "roberta", "albert", "funnel", "gpt2"])
def test_dropout_is_set_under_whatever_name_an_architecture_gives_it(kind: str) -> None:
    import transformers

    from tutelage.models.load import set_dropout

    classes = {
        "deberta": "DebertaV2Config",
        "modernbert": "ModernBertConfig",
        "electra": "ElectraConfig",
        "roberta": "RobertaConfig",
        "albert": "AlbertConfig",
        "funnel": "FunnelConfig",
        "gpt2": "GPT2Config",
    }
    config: Any = getattr(transformers, classes[kind])()
    set_dropout(config, 0.37)
    rates = {
        key: value
        for key, value in config.to_dict().items()
        if ("dropout" in key or key.endswith("pdrop")) and isinstance(value, int | float)
    }
    assert rates
    assert set(rates.values()) == {0.37}, rates


# LoRA


ADAPTED = {"bert": ["query", "value"], "distilbert": ["q_lin", "lin1"]}


def adapted(folder: Path, **changes: Any) -> Any:
    """A model with adapters that are not at their start, where they do nothing."""
    method = LoraFinetune(type="lora", rank=4, **({"target_modules": ADAPTED[folder.name]} | changes))
    model = prepare_for_training(load_classifier(folder), method)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return model


def test_lora_starts_as_the_model_it_wraps(bert: Path) -> None:
    wrapped = prepare_for_training(load_classifier(bert), LoraFinetune(type="lora"))
    torch.testing.assert_close(logits(wrapped, bert), logits(load_classifier(bert), bert))


def test_lora_trains_its_adapters_and_the_head_alone(folder: Path) -> None:
    model = adapted(folder)
    left = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert any("lora_A" in name for name in left)
    assert all("lora_" in name or "classifier" in name for name in left)
    assert any("classifier" in name for name in left)


def test_merging_gives_a_plain_model_with_the_same_logits(folder: Path, tmp_path: Path) -> None:
    model = adapted(folder)
    before_BC = logits(model, folder)
    plain = merged(model)
    assert type(plain) is type(load_classifier(folder))
    torch.testing.assert_close(logits(plain, folder), before_BC, rtol=1e-5, atol=1e-5)
    assert (before_BC - logits(load_classifier(folder), folder)).abs().max() > 1e-2
    plain.save_pretrained(tmp_path)
    torch.testing.assert_close(logits(load_classifier(tmp_path), folder), before_BC, rtol=1e-5, atol=1e-5)


def test_merging_a_plain_model_changes_nothing(bert: Path) -> None:
    model = load_classifier(bert)
    assert merged(model) is model


def test_lora_on_a_cut_student_adapts_the_layers_that_are_left(bert: Path) -> None:
    model = prepare_for_training(load_classifier(bert), LoraFinetune(type="lora"), keep=[1])
    layers = {name.split("layer.")[1][0] for name, _ in model.named_parameters() if "lora_A" in name}
    assert layers == {"0"}


def test_lora_layers_that_the_model_does_not_have_are_refused_with_those_it_has(bert: Path) -> None:
    with pytest.raises(ModelError, match=r"target_modules \['nowhere'\] does not fit BertFor") as caught:
        adapted(bert, target_modules=["nowhere"])
    assert caught.value.fix == "write method.target_modules with some of dense, key, query, value"


def test_lora_asks_for_its_layers_where_peft_has_no_choice(folders: dict[str, Path]) -> None:
    """Of DistilBERT, for one."""
    with pytest.raises(ModelError, match=r"target_modules None does not fit DistilBert") as caught:
        adapted(folders["distilbert"], target_modules=None)
    assert "q_lin" in caught.value.fix


# Precision


@pytest.mark.parametrize(
    ("asked", "cuda", "flags", "taken"),
    [
        ("auto", True, "", "bf16"),
        ("auto", False, "amx_bf16", "fp32"),
        ("auto", None, "avx2", "fp32"),
        ("auto", None, "avx512_bf16", "fp32"),
        ("auto", None, "avx512_bf16 amx_bf16", "bf16"),
        ("fp32", True, "", "fp32"),
        ("bf16", None, "avx2", "bf16"),
        ("fp16", None, "", "fp16"),
    ],
)
def test_auto_takes_bf16_only_where_it_is_fast(
    asked: Precision, cuda: bool | None, flags: str, taken: str
) -> None:
    assert resolve_precision(asked, cuda_bf16=cuda, cpu_flags=frozenset(flags.split())) == taken


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx2 amx_bf16\n\nprocessor\t: 1\n", {"fpu", "avx2", "amx_bf16"}),
        ("processor\t: 0\nFeatures\t: fp asimd bf16\n", {"fp", "asimd", "bf16"}),
        ("processor\t: 0\n", set()),
    ],
)
def test_the_flags_are_the_words_of_the_first_cpu(text: str, flags: set[str], tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(text, encoding="utf-8")
    assert cpu_flags(tmp_path / "cpuinfo") == flags


def test_a_machine_that_does_not_tell_its_flags_has_none(tmp_path: Path) -> None:
    assert cpu_flags(tmp_path / "cpuinfo") == frozenset()
