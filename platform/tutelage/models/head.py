"""config.json, above all of a classifier: what each logit means, and whether they are one choice.

Legend: C logits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tutelage.errors import ModelError

_ADVICE = "write id2label into config.json: the class of each logit, by its number"


def read_config(folder: str | Path) -> Any:
    """config.json as transformers read it. Raises ModelError."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # the strict dataclasses of transformers have errors of their own
        raise ModelError(f"{folder}: config.json cannot be read ({error})", fix="check the folder") from error


def class_names(config: dict[str, Any], folder: object) -> list[str]:
    """The names of the classes in the order of the logits [C], as config.json has them.

    Placeholder names of two classes are transformers' default, which a saved config leaves out.

    Raises:
        ModelError: id2label is no mapping from 0, 1, ... to names, or label2id says the opposite.
    """
    named = config.get("id2label") or {n: f"LABEL_{n}" for n in range(config.get("num_labels") or 2)}
    if not isinstance(named, dict):
        raise ModelError(f"{folder}: id2label in config.json is no mapping", fix=_ADVICE)
    numbers = [_number(key) for key in named]
    if sorted(numbers) != list(range(len(numbers))):
        swapped = all(_number(value) >= 0 for value in named.values())
        raise ModelError(
            f"{folder}: id2label in config.json has keys {', '.join(map(str, named))[:80]}; they must be "
            f"0 to {len(named) - 1}",
            fix="it is turned round, names to numbers: write it as label2id, and id2label as its opposite"
            if swapped
            else _ADVICE,
        )
    names = [str(name) for _, name in sorted(zip(numbers, named.values(), strict=True))]
    _check_opposite(config.get("label2id"), names, folder)
    return names


def _check_opposite(label2id: Any, names: list[str], folder: object) -> None:
    """A training may have counted by the one and named by the other."""
    if not isinstance(label2id, dict) or len(set(names)) != len(names):
        return
    said = {str(name): _number(number) for name, number in label2id.items()}
    wrong = [name for n, name in enumerate(names) if said.get(name, n) != n]
    if wrong:
        raise ModelError(
            f"{folder}: of '{wrong[0]}' config.json says {names.index(wrong[0])} in id2label and "
            f"{said[wrong[0]]} in label2id",
            fix="correct the one that is wrong: both must name the same logit",
        )


def head_fault(config: dict[str, Any], names: list[str]) -> str | None:
    """Why the logits are not those of one choice among classes; None where they are."""
    kind = config.get("problem_type")
    if kind == "multi_label_classification":
        return (
            "answers each class by itself (problem_type multi_label_classification), so its logits are "
            "no choice among classes"
        )
    if kind == "regression":
        return "predicts a number (problem_type regression), no class"
    if len(names) == 1:
        return "has one logit, which is a number or a yes, and no choice among classes"
    return None


def _number(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        return -1
