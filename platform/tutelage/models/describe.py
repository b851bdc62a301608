"""What a model folder says of itself, read from its JSON files before any weight is loaded."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.config.models import StudentConfig, TeacherConfig
from tutelage.config.task import Task, TaskName
from tutelage.errors import ModelError
from tutelage.models.head import class_names, head_fault, read_config
from tutelage.models.positions import usable_tokens

_HEADS: dict[str, TaskName] = {
    "ForSequenceClassification": "sequence-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForCausalLM": "causal-lm",
    "LMHeadModel": "causal-lm",
}
_CLASSIFIERS = ("sequence-classification", "token-classification")
_LAYERS = ("num_hidden_layers", "n_layers", "n_layer")
_WIDTHS = ("hidden_size", "n_embd", "d_model", "dim")
_LONGEST_HEADER = 100_000_000
"""safetensors' own limit."""
_PLACEHOLDER = re.compile(r"^LABEL_\d+$")


@dataclass(frozen=True)
class ModelCard:
    """The facts of a model folder that a job depends on."""

    folder: str
    architecture: str
    layers: int
    vocabulary: int
    positions: int | None
    """Longest text in tokens; None where any will do."""
    labels: list[str]
    """Classes in the order of the logits; empty when the folder has no trained classifier."""
    hidden: int | None = None
    """H, the width of the last hidden state; None where logits are more than one product with it."""
    weights: int = 0
    """Numbers in its weight files."""
    head_fault: str | None = None
    """Why a classifier's logits are no choice among its classes."""

    @property
    def head(self) -> TaskName | None:
        """The task that the model was trained for; None for a bare encoder."""
        return head_of(self.architecture)


def head_of(architecture: str) -> TaskName | None:
    """The task that a class of transformers is made for."""
    return next((task for ending, task in _HEADS.items() if architecture.endswith(ending)), None)


def describe(folder: str | Path) -> ModelCard:
    """Read config.json and the headers of the weights. Raises ModelError when the folder is no safe model."""
    folder = Path(folder)
    config = _read_json(folder / "config.json")
    if not list(folder.glob("*.safetensors")):
        raise ModelError(
            f"{folder}: no .safetensors weights; pickled weights can run code and are not read",
            fix="save the model with safetensors (save_pretrained does)",
        )
    architecture = str((config.get("architectures") or ["?"])[0])
    labels = class_names(config, folder) if head_of(architecture) in _CLASSIFIERS else []
    return ModelCard(
        folder=str(folder),
        architecture=architecture,
        layers=int(next((config[key] for key in _LAYERS if config.get(key)), 0)),
        vocabulary=int(config.get("vocab_size") or 0),
        positions=usable_tokens(read_config(folder)),
        labels=labels,
        head_fault=head_fault(config, labels) if head_of(architecture) == "sequence-classification" else None,
        hidden=_linear_width(config),
        weights=sum(count_weights(path) for path in folder.glob("*.safetensors")),
    )


def _linear_width(config: dict[str, Any]) -> int | None:
    """The width that a vocabulary head multiplies. Whether it has a bias, its weights must tell."""
    if config.get("final_logit_softcapping"):
        return None
    return next((int(config[key]) for key in _WIDTHS if config.get(key)), None)


def count_weights(path: Path) -> int:
    """Numbers in a safetensors file, by its header (8 bytes of length, then JSON); 0 where it is damaged."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > _LONGEST_HEADER:
            return 0  # loading it will say what is wrong
        try:
            header = json.loads(file.read(size))
        except ValueError:
            return 0
    return sum(math.prod(part["shape"]) for name, part in header.items() if name != "__metadata__")


def teacher_label_order(teacher: TeacherConfig, card: ModelCard, task: Task) -> list[int]:
    """For each task label, the teacher's logit that means it; empty for a task without labels.

    Raises ModelError when the teacher's head is another task's, and when the teacher does not say what its
    classes mean: logits taken in the wrong order train the student on the opposite of what the teacher says.
    """
    labels = teacher.labels or card.labels
    key = f"teachers.{teacher.name}"
    if card.head != task.type:
        raise ModelError(
            f"{key}.model {card.folder} is a {card.architecture} without a trained head for this task",
            fix=f"add {key}.finetune, or name a fine-tuned model",
        )
    if not task.labels:
        return []
    if card.head_fault:
        raise ModelError(
            f"{key}.model {card.folder} {card.head_fault}",
            fix=f"add {key}.finetune, which makes it a new head, or name a model that chooses one class",
        )
    if teacher.labels is None and all(_PLACEHOLDER.match(label) for label in labels):
        raise ModelError(
            f"{key}.model {card.folder} calls its classes {labels}; which is which of {task.labels}?",
            fix=f"write {key}.labels with the task's labels in the order of the model's logits",
        )
    if teacher.labels and len(teacher.labels) != len(card.labels):
        raise ModelError(
            f"{key}.labels names {len(teacher.labels)} classes, the model has {len(card.labels)}",
            fix=f"write one label for each logit of {card.folder}",
        )
    if sorted(labels) != sorted(task.labels):
        raise ModelError(
            f"{key}.model {card.folder} knows {labels}, task.labels are {task.labels}",
            fix=_label_advice(key, labels, task.labels),
        )
    return [labels.index(label) for label in task.labels]


def _label_advice(key: str, labels: list[str], wanted: list[str]) -> str:
    """The key as it is to be written, where the names differ in case or white space alone."""
    by_sound = {" ".join(name.split()).casefold(): name for name in wanted}
    meant = [by_sound.get(" ".join(name.split()).casefold(), "") for name in labels]
    if sorted(meant) == sorted(wanted):
        return f"write {key}.labels: [{', '.join(meant)}], if that is what the model means"
    return f"write {key}.labels with the task's labels in the order of the model's logits"


def check_vocabulary_size(key: str, card: ModelCard, tokens: int) -> None:
    """Raise ModelError when the tokenizer, whose largest id is `tokens` - 1, has ids beyond the embedding."""
    if card.vocabulary and tokens > card.vocabulary:
        raise ModelError(
            f"{key}: the tokenizer has {tokens} tokens, the model embeds {card.vocabulary}",
            fix="use the tokenizer that belongs to the model",
        )


def check_length(key: str, card: ModelCard, max_tokens: int, fix: str) -> None:
    """Raise ModelError when a text of the job may be longer than the model reads."""
    if card.positions and max_tokens > card.positions:
        raise ModelError(
            f"{key}: data.max_tokens is {max_tokens}, {card.architecture} has {card.positions} positions",
            fix=fix,
        )


def check_student(student: StudentConfig, card: ModelCard) -> None:
    """Raise ModelError when the student would keep layers that there are not."""
    if student.layers and student.layers[-1] >= card.layers:
        raise ModelError(
            f"student.layers {student.layers}: {card.folder} has layers 0 to {card.layers - 1}",
            fix=f"keep layers below {card.layers}",
        )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(
            f"{path.parent}: no {path.name}", fix="name a folder written by save_pretrained"
        ) from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read ({error})", fix="fetch or save the model again") from None
    if not isinstance(content, dict):
        raise ModelError(f"{path}: not a JSON object", fix="fetch or save the model again")
    return content
