"""The config of transformers for a shape: each family has other names and rules for the same sizes.

depth, width, heads and feed_forward are written under the names that the family has for them
(num_hidden_layers or n_layers, hidden_size, dim or n_embd, ...). Vocabulary, positions and special tokens are
those of the base model. Where the base is of the same family its other values are kept too (activation,
epsilon, ...); a base of another family leaves them to the family. `options` go last.

Rules of families:

* ALBERT has one set of weights for all layers, whatever depth; embedding is the rank of its token table.
* ELECTRA takes a token table of rank embedding, and none in between when that is width.
* MobileBERT's layers work in a bottleneck of width / 4 (options.intra_bottleneck_size), which heads must
  divide; feed_forward is the width of each of its four feed-forward blocks there, 4 x bottleneck when null.
  With options.use_bottleneck false they work in width.
* RoBERTa and its like count positions from behind the padding token, so they have that many rows more.
* Families with key-value heads have one for each head, unless an option says otherwise.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from tutelage.config.architecture import Architecture
from tutelage.config.models import LoraFinetune, Method, PartialFinetune
from tutelage.config.task import Task, TaskName
from tutelage.errors import ModelError
from tutelage.models.head import read_config
from tutelage.models.load import AUTO_CLASSES, set_labels
from tutelage.models.positions import rows_before

_NAMES = {
    "depth": ("num_hidden_layers",),
    "width": ("hidden_size",),
    "heads": ("num_attention_heads",),
    "feed_forward": ("intermediate_size", "hidden_dim", "n_inner", "d_inner", "ffn_dim"),
    "embedding": ("embedding_size",),
}
_TOKENS = ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")
_FROM_BASE = ("vocab_size", "max_position_embeddings", *_TOKENS)
_FROM_TASK = ("num_labels", "id2label", "label2id", "problem_type", "architectures")
_FOLLOW_SHAPE = (
    "layer_types",
    "head_dim",
    "d_head",
    "num_key_value_heads",
    "pooler_hidden_size",
    "intra_bottleneck_size",
    "true_hidden_size",
)
"""Never taken from a base: they follow from the shape."""
_SAME_LAYER = (
    "num_key_value_heads",
    "head_dim",
    "intra_bottleneck_size",
    "num_feedforward_networks",
    "use_bottleneck",
    "use_bottleneck_attention",
    "key_query_shared_bottleneck",
    "normalization_type",
    "inner_group_num",
)
"""What must be equal beside width, heads and feed_forward for a layer to fit another model."""


def student_config(architecture: Architecture, base: str | Path, task: Task) -> Any:
    """The transformers config of a student of this shape for the task.

    Args:
        architecture: the shape.
        base: model folder that gives vocabulary, positions and special tokens.
        task: decides which families there are, and the classes.

    Raises:
        ModelError: no such family for the task, one of which the shape cannot be said, an option that it does
            not have, or values that transformers refuses.
    """
    from transformers import CONFIG_MAPPING

    _check_family(architecture.family, task.type)
    kind: Any = CONFIG_MAPPING[architecture.family]
    plain = kind()
    names: dict[str, Any] = {field: _name(plain, candidates) for field, candidates in _NAMES.items()}
    _check_names(architecture, names)
    _check_options(architecture, plain, names)
    old = read_config(base)
    values = _inherited(plain, old, set(names.values()))
    bottleneck = {"use_bottleneck": getattr(plain, "use_bottleneck", False), **values, **architecture.options}
    working = _working_width(architecture, bool(bottleneck["use_bottleneck"]))
    values |= {
        names["depth"]: architecture.depth,
        names["width"]: architecture.width,
        names["heads"]: architecture.heads,
        names["feed_forward"]: architecture.feed_forward or 4 * working,
    }
    if names["embedding"]:
        values[names["embedding"]] = architecture.embedding or min(_rank(plain, old), architecture.width)
    if hasattr(plain, "num_key_value_heads"):
        values["num_key_value_heads"] = architecture.heads
    if architecture.family == "mobilebert":
        values["intra_bottleneck_size"] = max(1, architecture.width // 4)
    # An empty object of a family may have values of its default shape, so it is made in one go.
    try:
        config = kind(**(values | architecture.options))
    except Exception as error:  # the strict dataclasses of transformers have errors of their own
        raise ModelError(
            f"student.architecture: transformers refuse this {architecture.family} ({_flat(error)})",
            fix="change the value that is named",
        ) from error
    if task.labels:
        set_labels(config, list(task.labels))
    return config


def base_config(base: str | Path, task: Task, layers: list[int] | None = None) -> Any:
    """The config of a student cut from `base` to `layers`. Raises ModelError."""
    config = read_config(base)
    if layers:
        if layers[-1] >= config.num_hidden_layers:
            raise ModelError(
                f"student.layers {layers}: {base} has layers 0 to {config.num_hidden_layers - 1}",
                fix="name layers it has",
            )
        config.num_hidden_layers = len(layers)
        if getattr(config, "layer_types", None):
            config.layer_types = [config.layer_types[index] for index in layers]
    if task.labels:
        set_labels(config, list(task.labels))
    return config


def build(config: Any, task: TaskName, *, attention: str | None = None) -> Any:
    """A model of the config with random weights, in fp32, on the device that is torch's default now.

    Raises ModelError where transformers refuse the shape.
    """
    import torch
    import transformers

    auto: Any = getattr(transformers, AUTO_CLASSES[task])
    more = {"attn_implementation": attention} if attention else {}
    try:
        return auto.from_config(config, dtype=torch.float32, **more)
    except Exception as error:  # whatever a family's constructor checks
        raise ModelError(
            f"student.architecture: a {config.model_type} of this shape cannot be built ({_flat(error)})",
            fix="change the size that is named",
        ) from error


def weights_of(config: Any, task: TaskName) -> int:
    """How many weights a model of the config has; nothing is allocated. Raises ModelError."""
    import torch

    with torch.device("meta"):
        model = build(config, task)
    return sum(parameter.numel() for parameter in model.parameters())


def layers_fit(config: Any, base: Any) -> bool:
    """Whether layers of the base fit a model of `config`: same family, width, heads, feed-forward."""
    if config.model_type != base.model_type:
        return False
    names = [_name(config, _NAMES[field]) for field in ("width", "heads", "feed_forward")]
    return all(
        getattr(config, name, None) == getattr(base, name, None) for name in (*names, *_SAME_LAYER) if name
    )


def check_method(method: Method, config: Any, base: Any) -> None:
    """Raise ModelError where a method would leave random layers as they are."""
    if layers_fit(config, base):
        return
    family = base.model_type
    shape = f"give student.architecture family {family}, and the width, heads and feed_forward of its model"
    start = "the layers of student.architecture start at random here"
    if isinstance(method, LoraFinetune):
        raise ModelError(
            f"student.method lora: {start}, and adapters would leave them so",
            fix=f"student.method.type=full, or {shape}",
        )
    if isinstance(method, PartialFinetune) and method.freeze_layers:
        raise ModelError(
            f"student.method.freeze_layers {method.freeze_layers}: {start}, and frozen they would stay so",
            fix=f"student.method.freeze_layers=0, or {shape}",
        )


def _check_family(family: str, task: TaskName) -> None:
    known = _families(task)
    if family in known:
        return
    near = difflib.get_close_matches(family.lower(), known, n=3, cutoff=0.6)
    raise ModelError(
        f"student.architecture.family: transformers have no '{family}' for {task}",
        fix=f"did you mean {' or '.join(near)}?"
        if near
        else "use bert, distilbert, albert, electra or mobilebert",
    )


def _families(task: TaskName) -> list[str]:
    from transformers import CONFIG_MAPPING
    from transformers.models.auto import modeling_auto

    names = getattr(modeling_auto, f"MODEL_FOR_{task.upper().replace('-', '_')}_MAPPING_NAMES")
    return sorted(name for name in names if name in CONFIG_MAPPING)


def _name(config: Any, candidates: tuple[str, ...]) -> str | None:
    """What this config calls one of these; None when it has none of them."""
    renamed = [type(config).attribute_map.get(name, name) for name in candidates]
    return next((name for name in renamed if name in vars(config)), None)


def _check_names(architecture: Architecture, names: dict[str, str | None]) -> None:
    family = architecture.family
    if architecture.embedding is not None and not names["embedding"]:
        raise ModelError(
            f"student.architecture.embedding {architecture.embedding}: {family} has no factorised embeddings",
            fix="leave it out, or use family albert, electra or mobilebert",
        )
    lacking = [field for field, name in names.items() if name is None and field != "embedding"]
    if lacking:
        raise ModelError(
            f"student.architecture.family: {family} has no one value for {', '.join(lacking)}",
            fix="use bert, distilbert, albert, electra or mobilebert",
        )


def _check_options(architecture: Architecture, plain: Any, names: dict[str, str | None]) -> None:
    ours = {name: field for field, name in names.items() if name}
    taken = {plain.attribute_map.get(name, name) for name in _FROM_BASE}
    # What the class itself declares: every config also carries settings that are no part of a shape.
    free = [
        name for name in plain.to_dict() if name not in {*ours, *taken, *_FROM_TASK} and name != "model_type"
    ]
    for key in architecture.options:
        own = plain.attribute_map.get(key, key)
        if own in ours:
            problem, fix = "is part of the shape", f"write student.architecture.{ours[own]} instead"
        elif own in taken:
            problem, fix = "comes from student.model", "leave it out"
        elif own in _FROM_TASK:
            problem, fix = "comes from the task", "leave it out"
        elif own not in free:
            near = difflib.get_close_matches(key, free, n=1, cutoff=0.5)
            problem = f"{architecture.family} has no such value"
            fix = f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(sorted(free))}"
        else:
            continue
        raise ModelError(f"student.architecture.options.{key}: {problem}", fix=fix)


def _inherited(plain: Any, old: Any, shape: set[str | None]) -> dict[str, Any]:
    """What a new config of the family takes from the base."""
    values: dict[str, Any] = {}
    if old.model_type == plain.model_type:
        left = {*shape, *_FROM_TASK, *_FOLLOW_SHAPE, "model_type", "transformers_version", "dtype"}
        values = {
            key: value for key, value in old.to_dict().items() if key in vars(plain) and key not in left
        }
    elif hasattr(plain, "type_vocab_size") and getattr(old, "type_vocab_size", None):
        values["type_vocab_size"] = old.type_vocab_size
    rename = plain.attribute_map.get
    # Special tokens of a family's own vocabulary may lie outside this one.
    values |= {
        rename(key, key): getattr(old, key, None) for key in _TOKENS if hasattr(plain, rename(key, key))
    }
    values[rename("vocab_size", "vocab_size")] = old.vocab_size
    positions = getattr(old, "max_position_embeddings", None)
    key = rename("max_position_embeddings", "max_position_embeddings")
    if positions and hasattr(plain, key):
        values[key] = positions - rows_before(old) + rows_before(plain, old.pad_token_id)
    return values


def _rank(plain: Any, old: Any) -> int:
    same = old.model_type == plain.model_type
    return int((old if same else plain).embedding_size)


def _working_width(architecture: Architecture, bottleneck: bool) -> int:
    """The width that heads and feed-forward blocks see."""
    if architecture.family != "mobilebert" or not bottleneck:
        return architecture.width
    narrow = int(architecture.options.get("intra_bottleneck_size", max(1, architecture.width // 4)))
    if narrow % architecture.heads:
        wider = 4 * architecture.heads * -(-narrow // architecture.heads)
        raise ModelError(
            f"student.architecture.heads {architecture.heads} does not divide MobileBERT's bottleneck of "
            f"{narrow} (width / 4 unless options.intra_bottleneck_size says otherwise)",
            fix=f"use heads that divide {narrow}, or width {wider}",
        )
    return narrow


def _flat(error: Exception) -> str:
    return " ".join(str(error).split())
