"""Loading classifiers and tokenizers: safetensors only, no code from outside, nothing printed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tutelage.config.models import FullFinetune, LoraFinetune, Method, PartialFinetune
from tutelage.errors import ModelError
from tutelage.models.layers import freeze, keep_layers


def load_classifier(
    folder: str | Path, labels: list[str] | None = None, *, dropout: float | None = None
) -> Any:
    """A sequence classifier in fp32, eval mode.

    With `labels` the head is given these classes, and made anew where the folder has none. Weights
    come from safetensors only; a folder that needs its own Python code is refused by transformers.
    """
    from transformers import AutoConfig, AutoModelForSequenceClassification

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        if labels is not None:
            config.num_labels = len(labels)
            config.id2label = dict(enumerate(labels))
            config.label2id = {label: index for index, label in enumerate(labels)}
        if dropout is not None:
            _set_dropout(config, dropout)
        model = AutoModelForSequenceClassification.from_pretrained(
            folder, config=config, use_safetensors=True, trust_remote_code=False, dtype="float32"
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"{folder}: cannot be loaded as a classifier ({error})", fix="check the folder"
        ) from error
    return model.eval()


def load_tokenizer(folder: str | Path) -> Any:
    """The folder's fast tokenizer."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, use_fast=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{folder}: no tokenizer ({error})", fix="save the tokenizer beside the model"
        ) from error
    # transformers makes a tokenizer of special tokens alone where the files are missing.
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise ModelError(
            f"{folder}: no tokenizer (no file with its words)", fix="save the tokenizer beside the model"
        )
    return tokenizer


def prepare_for_training(model: Any, method: Method, keep: list[int] | None = None) -> Any:
    """Cut the model to `keep` layers, then leave trainable what the method trains.

    Returns the model to train, which for LoRA is peft's wrapper around it.
    """
    if keep:
        keep_layers(model, keep)
    match method:
        case FullFinetune():
            return model
        case PartialFinetune():
            freeze(model, embeddings=method.freeze_embeddings, layers=method.freeze_layers)
            return model
        case LoraFinetune():
            return _with_adapters(model, method)


def merged(model: Any) -> Any:
    """The plain model: LoRA adapters are added into the weights they adapt."""
    return model.merge_and_unload() if hasattr(model, "merge_and_unload") else model


def _with_adapters(model: Any, method: LoraFinetune) -> Any:
    from peft import LoraConfig, TaskType, get_peft_model

    try:
        return get_peft_model(
            model,
            LoraConfig(
                task_type=TaskType.SEQ_CLS,
                r=method.rank,
                lora_alpha=method.alpha,
                lora_dropout=method.dropout,
                target_modules=method.target_modules,
            ),
        )
    except ValueError as error:
        raise ModelError(
            f"lora.target_modules {method.target_modules}: {error}", fix="name layers that the model has"
        ) from error


def _set_dropout(config: Any, dropout: float) -> None:
    for key in (
        "hidden_dropout_prob",
        "attention_probs_dropout_prob",
        "dropout",
        "attention_dropout",
        "seq_classif_dropout",
        "classifier_dropout",
    ):
        if getattr(config, key, None) is not None:
            setattr(config, key, dropout)
