"""Plain data as YAML that is good to read: sections in blocks, short lists on one line, comments aligned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import yaml

from tutelage.config.shape import dotted
from tutelage.config.yaml_source import CoreDumper, KeyPath

Comment = Callable[[str], str | None]
"""Dotted key of a leaf -> the comment beside it."""


def is_leaf(value: Any) -> bool:
    """True for what stands on one line: a value, a list of values, an empty mapping."""
    if isinstance(value, dict):
        return not value
    return not (isinstance(value, list) and any(isinstance(item, dict | list) for item in value))


def inline(value: Any) -> str:
    """A value as YAML on one line."""
    text = yaml.dump(value, Dumper=CoreDumper, default_flow_style=True, width=2**20, allow_unicode=True)
    return str(text).removesuffix("\n").removesuffix("\n...")


def to_yaml(data: dict[str, Any], comment: Comment | None = None) -> str:
    """`data` as YAML; `comment` writes beside a leaf."""
    lines = _lines(data, (), data)
    if comment is None:
        return "".join(f"{text}\n" for text, _ in lines)
    width = max((len(text) for text, path in lines if path is not None and len(text) < 60), default=0)
    out = []
    for text, path in lines:
        note = comment(dotted(path, data)) if path is not None else None
        out.append(f"{text:<{width}}  # {note}\n" if note else f"{text}\n")
    return "".join(out)


def _lines(value: Any, path: KeyPath, root: Any) -> list[tuple[str, KeyPath | None]]:
    """Lines without indentation of their own, each with the leaf that it holds."""
    lines: list[tuple[str, KeyPath | None]] = []
    if isinstance(value, dict):
        for key, below in value.items():
            here = (*path, key)
            if is_leaf(below):
                lines.append((f"{inline(key)}: {inline(below)}", here))
            else:
                lines.append((f"{inline(key)}:", None))
                lines += [(f"  {text}", leaf) for text, leaf in _lines(below, here, root)]
        return lines
    for index, item in enumerate(value):
        here = (*path, index)
        below_lines = [(inline(item), here)] if is_leaf(item) else _lines(item, here, root)
        lines += [(("- " if i == 0 else "  ") + text, leaf) for i, (text, leaf) in enumerate(below_lines)]
    return lines
