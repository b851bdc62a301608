"""Whether a model has got all its weights from its files.

transformers fill what is missing with random numbers and leave out what they do not know; the loading report
says so. A teacher of such weights would be another model at every load.
"""

from __future__ import annotations

import re
from typing import Any

from tutelage.errors import ModelError

_SPARE = re.compile(r"(^|\.)(pooler|lm_head|cls|predictions|position_ids|score_tokens)(\.|$)")
"""Parts of pretraining that a model may do without, and buffers of earlier formats."""
_SHOWN = 3


def check_weights(model: Any, report: dict[str, Any], folder: object, *, new_head: bool = False) -> None:
    """Raise ModelError where a model holds weights that are not from its files, or not all of theirs.

    Args:
        model: as `from_pretrained` made it.
        report: its loading report (`output_loading_info`).
        folder: in messages.
        new_head: the head, and a pooler, may be made anew: what is missing or too much outside the body,
            or has another shape there, is meant so.
    """
    missing = sorted(map(str, report["missing_keys"]))
    spare = sorted(map(str, report["unexpected_keys"]))
    shapes = sorted(str(entry[0]) for entry in report.get("mismatched_keys") or ())
    if new_head:
        missing = [name for name in missing if _in_body(model, name) and ".pooler." not in f".{name}"]
        spare = [name for name in spare if _in_body(model, name)]
        shapes = [name for name in shapes if _in_body(model, name)]
    spare = [name for name in spare if not _SPARE.search(name)]
    if not missing and not spare and not shapes:
        return
    found = [
        f"{len(names)} {what} ({_some(names)})"
        for names, what in (
            (missing, "of its weights are not in the files"),
            (spare, "in the files are not its own"),
            (shapes, "have another shape"),
        )
        if names
    ]
    raise ModelError(
        f"{folder}: the weights do not fit {type(model).__name__}: {', '.join(found)}; "
        "what is missing would be random",
        fix=_advice(missing, spare),
    )


def _in_body(model: Any, name: str) -> bool:
    """Whether a weight stands in the model without its head; names may lack the prefix of it."""
    prefix, body = f"{model.base_model_prefix}.", model.base_model
    parts = {part for part, _ in (*body.named_children(), *body.named_parameters(recurse=False))}
    return name.startswith(prefix) or name.partition(".")[0] in parts


def _advice(missing: list[str], spare: list[str]) -> str:
    for prefix in _wrappers(spare):
        if {name.removeprefix(prefix) for name in spare} & set(missing):
            return (
                f"the weights were saved out of a wrapper, under '{prefix}': save the model inside it with "
                "save_pretrained"
            )
    if missing:
        return "save the whole fine-tuned model with save_pretrained, or train a head with `finetune`"
    return "make config.json that of the weights (number of layers, architecture), or save the model anew"


def _wrappers(names: list[str]) -> list[str]:
    """What all names begin with, up to a dot, the longest first."""
    parts = names[0].split(".") if names else []
    starts = [".".join(parts[:count]) + "." for count in range(len(parts) - 1, 0, -1)]
    return [start for start in starts if all(name.startswith(start) for name in names)]


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
