"""Loading models and tokenizers: safetensors only, no code from outside, nothing printed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from tutelage.config.models import FullFinetune, LoraFinetune, Method, PartialFinetune
from tutelage.config.task import TaskName
from tutelage.errors import ModelError
from tutelage.models.alignment import align
from tutelage.models.describe import head_of
from tutelage.models.layers import freeze, keep_layers
from tutelage.models.vocabulary import vocabulary_head
from tutelage.models.weights import check_weights
from tutelage.tokenizer import load_tokenizer

__all__ = [
    "load_classifier",
    "load_model",
    "load_tokenizer",
    "merged",
    "prepare_for_training",
    "vocabulary_head",
]

AUTO_CLASSES: dict[TaskName, str] = {
    "sequence-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
    "causal-lm": "AutoModelForCausalLM",
}
_SAFELY: dict[str, Any] = {
    **{"use_safetensors": True, "trust_remote_code": False, "dtype": "float32"},
    "output_loading_info": True,
}


def load_classifier(
    folder: str | Path, labels: list[str] | None = None, *, dropout: float | None = None
) -> Any:
    """A sequence classifier in fp32, eval mode; see `load_model`."""
    return load_model(folder, "sequence-classification", labels, dropout=dropout)


def load_model(
    folder: str | Path,
    task: TaskName,
    labels: list[str] | None = None,
    *,
    dropout: float | None = None,
    new_head: bool = False,
) -> Any:
    """A model of the task in fp32, eval mode.

    Weights come from safetensors only; a folder that needs its own Python code is refused by transformers.

    Args:
        folder: with config.json and the weights.
        task: decides the head.
        labels: the classes of the head; the folder's own when None.
        dropout: every dropout rate; the model's own when None.
        new_head: a head that the folder lacks, or has for other classes, is made anew, at random.

    Raises:
        ModelError: the folder cannot be read, or its weights are not those of the model.
    """
    import transformers
    from transformers import AutoConfig

    auto: Any = getattr(transformers, AUTO_CLASSES[task])
    what = "a classifier" if task == "sequence-classification" else f"a model for {task}"
    with _loading(folder, what):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        if labels is not None:
            set_labels(config, labels)
        if dropout is not None:
            set_dropout(config, dropout)
        if config.model_type == "big_bird":
            # Sparse attention turns itself off for good at the first short text, so that what is said of a
            # long one would depend on those before it.
            config.attention_type = "original_full"
        model, report = auto.from_pretrained(
            folder, config=config, ignore_mismatched_sizes=new_head, **_SAFELY
        )
    check_weights(model, report, folder, new_head=new_head)
    return align(model).eval()


def load_body(folder: str | Path) -> Any:
    """The model without any task's head, in fp32, eval mode. Raises ModelError."""
    from transformers import AutoModel

    auto: Any = AutoModel
    with _loading(folder, "a model"):
        model, report = auto.from_pretrained(folder, **_SAFELY)
    check_weights(model, report, folder, new_head=True)
    return model.eval()


@contextmanager
def _loading(folder: str | Path, what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # transformers, safetensors and quantisers have errors of all kinds
        raise ModelError(f"{folder}: cannot be loaded as {what} ({error})", fix="check the folder") from error


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

    names = {
        "sequence-classification": TaskType.SEQ_CLS,
        "token-classification": TaskType.TOKEN_CLS,
        "question-answering": TaskType.QUESTION_ANS,
        "causal-lm": TaskType.CAUSAL_LM,
    }
    config = LoraConfig(
        task_type=names[head_of(type(model).__name__) or "sequence-classification"],
        r=method.rank,
        lora_alpha=method.alpha,
        lora_dropout=method.dropout,
        target_modules=method.target_modules,
    )
    try:
        with quiet_peft():
            return get_peft_model(model, config)
    except ValueError as error:
        parts = model.base_model.named_modules()
        linear = {name.rpartition(".")[2] for name, part in parts if isinstance(part, nn.Linear)}
        raise ModelError(
            f"method.target_modules {method.target_modules} does not fit {type(model).__name__}: {error}",
            fix=f"write method.target_modules with some of {', '.join(sorted(linear))}",
        ) from error


@contextmanager
def quiet_peft() -> Iterator[None]:
    """peft asks transformers by an old name, and warns of weights that its callers compare themselves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.filterwarnings("ignore", "Found missing adapter keys", UserWarning)
        yield


def set_labels(config: Any, labels: list[str]) -> None:
    """Give a config these classes, in place."""
    config.num_labels = len(labels)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: index for index, label in enumerate(labels)}
    config.problem_type = None  # a base's head may have been another problem's


def set_dropout(config: Any, dropout: float) -> None:
    """Set every dropout rate of a config, in place.

    Architectures give their rates many names; None means another one's rate and stays.
    """
    for key, value in config.to_dict().items():
        named = "dropout" in key or key.endswith("pdrop")
        if named and isinstance(value, int | float) and not isinstance(value, bool):
            setattr(config, key, dropout)
