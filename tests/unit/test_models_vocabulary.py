"""Vocabularies of teacher and student, and output layers that are one product.

Shapes: V vocabulary, H hidden.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tutelage.config.models import LoraFinetune, TeacherConfig
from tutelage.config.task import CausalLM, QuestionAnswering, TokenClassification
from tutelage.errors import ModelError
from tutelage.models.describe import ModelCard, check_vocabulary_size, describe, teacher_label_order
from tutelage.models.layers import keep_layers
from tutelage.models.load import load_model, load_tokenizer, prepare_for_training
from tutelage.models.vocabulary import check_vocabulary, vocabulary_head
from tutelage.testing import TAGS, tiny_model
from tutelage.testing.classification import word_tokenizer

pytestmark = pytest.mark.unit

TEACHER = TeacherConfig(name="big", model="here")
LM = CausalLM(type="causal-lm")


def test_one_vocabulary_gives_its_size_whatever_the_embeddings(tmp_path: Path) -> None:
    folders = [
        tiny_model(tmp_path / str(n), "causal-lm", tokenizer="bytes", embeddings=n) for n in (512, 520)
    ]
    student, teacher = map(load_tokenizer, folders)
    assert check_vocabulary("teachers.big", student, teacher) == 260
    assert [describe(folder).vocabulary for folder in folders] == [512, 520]
    for folder in folders:
        check_vocabulary_size("teachers.big.model", describe(folder), 260)


@pytest.mark.parametrize(
    ("ours", "theirs", "problem"),
    [
        (["a", "b"], ["a", "c"], r"6 tokens, the teacher's 6; the first that differs is 5: 'b' against 'c'"),
        (["a"], ["a", "c"], r"5 tokens, the teacher's 6; the first that differs is 5: none against 'c'"),
        (["a", "b", "c"], ["a"], r"7 tokens, the teacher's 5; the first that differs is 5: 'b' against none"),
    ],
)
def test_another_vocabulary_is_refused_with_both_sizes_and_the_first_difference(
    ours: list[str], theirs: list[str], problem: str
) -> None:
    with pytest.raises(ModelError, match=problem) as caught:
        check_vocabulary("teachers.big", word_tokenizer(ours), word_tokenizer(theirs))
    assert caught.value.problem.startswith("teachers.big: ")
    assert caught.value.fix


def test_the_head_of_a_tied_and_of_an_untied_model_gives_its_logits(tmp_path: Path) -> None:
    for kind in ("llama", "gpt2"):
        model = load_model(tiny_model(tmp_path / kind, "causal-lm", architecture=kind), "causal-lm")
        head_VH = vocabulary_head(model)
        ids = torch.tensor([[5, 9, 7]])
        with torch.no_grad():
            states_TH = model.base_model(ids).last_hidden_state[0]
            torch.testing.assert_close(states_TH @ head_VH.T, model(ids).logits[0], rtol=1e-5, atol=1e-5)
        assert vocabulary_head(model, 12).shape == (12, 16)


class Bent(torch.nn.Module):
    """A model whose logits pass through one more function."""

    def __init__(self, model: Any, bend: Any) -> None:
        super().__init__()
        self.inner, self.bend = model, bend
        self.config, self.base_model, self.device = model.config, model.base_model, model.device
        self.dtype = model.dtype

    def get_output_embeddings(self) -> Any:
        return self.inner.get_output_embeddings()

    def forward(self, **inputs: Any) -> Any:
        output = self.inner(**inputs)
        output.logits = self.bend(output.logits)
        return output


@pytest.fixture
def model(tmp_path: Path) -> Any:
    return load_model(tiny_model(tmp_path / "m", "causal-lm"), "causal-lm")


def test_a_constant_factor_is_multiplied_into_the_head(model: Any) -> None:
    head_VH = vocabulary_head(Bent(model, lambda logits: logits / 4))
    torch.testing.assert_close(head_VH, vocabulary_head(model) / 4)


@pytest.mark.parametrize(
    "bend", [lambda z: 2 * torch.tanh(z / 2), lambda z: z + 1, torch.relu], ids=["cap", "shift", "relu"]
)
def test_logits_that_are_no_product_are_refused(model: Any, bend: Any) -> None:
    with pytest.raises(ModelError, match="does not make its logits by one product") as caught:
        vocabulary_head(Bent(model, bend))
    assert "hidden" in caught.value.fix


def test_a_soft_cap_is_refused_even_where_the_probe_does_not_reach_it(model: Any) -> None:
    model.config.final_logit_softcapping = 1e6
    with pytest.raises(ModelError, match="caps its logits at"):
        vocabulary_head(model)


def test_a_bias_is_refused(model: Any) -> None:
    model.lm_head.bias = torch.nn.Parameter(torch.ones(len(model.lm_head.weight)))
    with pytest.raises(ModelError, match="adds a bias to its logits"):
        vocabulary_head(model)


def test_a_classifier_has_no_head_over_a_vocabulary(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "m", "token-classification")
    with pytest.raises(ModelError, match="has no output layer over a vocabulary"):
        vocabulary_head(load_model(folder, "token-classification", list(TAGS)))


# --- heads and labels of other tasks -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "architecture"),
    [
        ("token-classification", "BertForTokenClassification"),
        ("question-answering", "BertForQuestionAnswering"),
        ("causal-lm", "LlamaForCausalLM"),
    ],
)
def test_the_card_knows_the_task_of_a_folder(tmp_path: Path, task: Any, architecture: str) -> None:
    card = describe(tiny_model(tmp_path / "m", task))
    assert (card.architecture, card.head, card.layers, card.positions) == (architecture, task, 2, 64)
    assert card.labels == (list(TAGS) if task == "token-classification" else [])


def test_gpt2_spells_layers_and_positions_otherwise(tmp_path: Path) -> None:
    card = describe(tiny_model(tmp_path / "m", "causal-lm", architecture="gpt2"))
    assert (card.architecture, card.head, card.layers, card.positions) == (
        "GPT2LMHeadModel",
        "causal-lm",
        2,
        64,
    )


def test_a_teacher_of_another_task_is_refused() -> None:
    card = ModelCard("here", "BertForTokenClassification", 2, 9, 64, ["a", "b"])
    for task in (QuestionAnswering(type="question-answering"), LM):
        with pytest.raises(ModelError, match="is a BertForTokenClassification without a trained head"):
            teacher_label_order(TEACHER, card, task)
    task = TokenClassification(type="token-classification", labels=["b", "a"])
    assert teacher_label_order(TEACHER, card, task) == [1, 0]


def test_tasks_without_labels_take_columns_as_they_are() -> None:
    card = ModelCard("here", "LlamaForCausalLM", 2, 9, 64, [])
    assert teacher_label_order(TEACHER, card, LM) == []
    card = replace(card, architecture="BertForQuestionAnswering")
    assert teacher_label_order(TEACHER, card, QuestionAnswering(type="question-answering")) == []


def test_a_folder_without_a_model_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be loaded as a model for causal-lm"):
        load_model(tmp_path, "causal-lm")


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_decoder_cut_to_some_layers_still_writes_with_its_cache(tmp_path: Path, kind: Any) -> None:
    """Layers find their part of the cache by number; with wrong numbers the cache gives other tokens."""
    folder = tiny_model(tmp_path / "m", "causal-lm", architecture=kind, layers=4)
    model = load_model(folder, "causal-lm")
    keep_layers(model, [1, 3])
    ids = torch.tensor([[2, 5, 6]])
    with torch.no_grad():
        texts = [
            model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False, use_cache=cache
            )
            for cache in (True, False)
        ]
    assert texts[0].tolist() == texts[1].tolist()


@pytest.mark.parametrize(
    ("task", "kind"),
    [("token-classification", "bert"), ("question-answering", "bert"), ("causal-lm", "llama")],
)
def test_adapters_know_the_task_and_train_its_head(tmp_path: Path, task: Any, kind: Any) -> None:
    folder = tiny_model(tmp_path / "m", task, architecture=kind)
    model = load_model(folder, task, list(TAGS) if task == "token-classification" else None)
    modules = ["q_proj"] if kind == "llama" else ["query"]
    wrapped = prepare_for_training(model, LoraFinetune(type="lora", target_modules=modules))
    left = {name for name, parameter in wrapped.named_parameters() if parameter.requires_grad}
    heads = {name for name in left if "lora_" not in name}
    assert any("lora_A" in name for name in left)
    assert bool(heads) == (task != "causal-lm")
    assert all("classifier" in name or "qa_outputs" in name for name in heads)
