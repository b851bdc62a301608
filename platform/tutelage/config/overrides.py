"""Single values set from outside the file: `train.lr=3e-5`, or `TUTELAGE__TRAIN__LR=3e-5`.

Within one layer (environment, command line) short keys are set before long ones, `type` before its
neighbours, and of two settings of one key the later wins. A mapping replaces the whole section. List
items are called by their position, their `name`, or their `type` where they have no name. Setting
`type` to another variant drops the keys that the new variant does not have.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tutelage.config.base import Section, unknown_key
from tutelage.config.shape import alternatives, item_key, step, tag_of, type_at, unwrap, variants
from tutelage.config.yaml_source import KeyPath, parse_yaml
from tutelage.errors import ConfigError

PREFIX = "TUTELAGE__"

Origins = dict[KeyPath, str]
"""Where each node of the job came from: `job.yaml:12`, `environment NAME`, `command line`."""


@dataclass(frozen=True)
class Override:
    """One key and the value to put there."""

    words: tuple[str, ...]
    value: Any
    origin: str
    loose: bool = False
    """Names match without regard to case, and `_` stands for `-` and `.` too."""

    @property
    def key(self) -> str:
        """The key as it was written."""
        return ".".join(self.words)


def parse_override(text: str) -> Override:
    """`train.lr=3e-5` as an Override; the value is YAML. Raises ConfigError for anything else."""
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise ConfigError(
            f"override '{text}' is not KEY=VALUE", fix="write it like train.lr=3e-5; quote it in the shell"
        )
    words = tuple(next(csv.reader([key], delimiter=".")))
    if not all(words):
        raise ConfigError(f"override '{text}': the key has an empty part", fix="write it like train.lr=3e-5")
    return Override(words, _value(value, f"override '{key}'"), "command line")


def environment_overrides(environ: Mapping[str, str]) -> list[Override]:
    """The overrides in variables such as TUTELAGE__TRAIN__LR, by name."""
    found = []
    for name in sorted(environ):
        if name.startswith(PREFIX):
            words = tuple(name[len(PREFIX) :].lower().split("__"))
            if not all(words):
                raise ConfigError(f"environment {name}: the key has an empty part", fix=f"unset {name}")
            origin = f"environment {name}"
            found.append(Override(words, _value(environ[name], origin), origin, loose=True))
    return found


def _value(text: str, name: str) -> Any:
    if not text.strip():
        raise ConfigError(f"{name} has no value", fix="write null for nothing, or '\"\"' for empty text")
    return parse_yaml(text, name).data


def apply_overrides(
    data: dict[str, Any], origins: Origins, overrides: Sequence[Override], model: type[Section]
) -> None:
    """Set one layer of overrides in `data` and note where each value came from. Raises ConfigError."""
    for override in sorted(overrides, key=lambda o: (len(o.words), o.words[-1] != "type")):
        _set(data, origins, override, model)


def _set(data: dict[str, Any], origins: Origins, override: Override, model: type[Section]) -> None:
    node: Any = data
    path: KeyPath = ()
    for depth, word in enumerate(override.words):
        key: Any = _find(node, word, override, ".".join(override.words[:depth]))
        path = (*path, key)
        if depth == len(override.words) - 1:
            break
        below = step(node, key)
        if below is None:
            _refuse_list(path, data, model, override)
            below = node[key] = {}
            origins[path] = override.origin
        node = below
    if path[-1] == "type":
        _drop_other_variant(node, origins, path[:-1], override.value, type_at(path[:-1], model, data))
    node[path[-1]] = override.value
    for known in [known for known in origins if known[: len(path)] == path]:
        del origins[known]
    _note(override.value, path, override.origin, origins)


def _find(node: Any, word: str, override: Override, parent: str) -> str | int:
    """The key or position in `node` that `word` means."""
    if isinstance(node, list):
        names = [item_key(item, index, node) for index, item in enumerate(node)]
        for index, name in enumerate(names):
            if _same(str(name), word, override.loose):
                return index
        if word.isdecimal() and int(word) < len(node):
            return int(word)
        known = [str(name) for name in names]
        hint = unknown_key(word, known) if known else f"'{word}' does not exist, {parent} is empty"
        raise ConfigError(f"{override.origin}: {override.key}: {hint}", fix="use a name or a position from 0")
    if not isinstance(node, dict):
        raise ConfigError(
            f"{override.origin}: {override.key}: {parent} is a value, not a section",
            fix=f"set {parent} itself",
        )
    if word in node or not override.loose:
        return word
    return next((key for key in node if _same(key, word, loose=True)), word)


def _same(name: str, word: str, loose: bool) -> bool:
    return name == word or (loose and re.sub(r"[-.]", "_", name.lower()) == word)


def _refuse_list(path: KeyPath, data: dict[str, Any], model: type[Section], override: Override) -> None:
    annotation = type_at(path, model, data)
    if any(getattr(unwrap(part)[0], "__origin__", None) is list for part in alternatives(annotation)):
        raise ConfigError(
            f"{override.origin}: {override.key}: {path[-1]} has no entries yet",
            fix=f"set the whole list: {path[-1]}=[{{...}}]",
        )


def _drop_other_variant(
    section: dict[str, Any], origins: Origins, path: KeyPath, tag: Any, annotation: Any
) -> None:
    chosen = next((one for one in variants(annotation) if tag_of(one) == tag), None)
    if chosen is None:
        return
    for key in [key for key in section if key not in chosen.model_fields]:
        del section[key]
        for known in [known for known in origins if known[: len(path) + 1] == (*path, key)]:
            del origins[known]


def _note(value: Any, path: KeyPath, origin: str, origins: Origins) -> None:
    origins[path] = origin
    items: Any = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, below in items:
        _note(below, (*path, key), origin, origins)
