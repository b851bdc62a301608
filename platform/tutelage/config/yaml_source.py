"""YAML with positions: plain data, and for each node the line it came from.

Reads the core schema of YAML 1.2: `no`, `off` and `2024-01-01` are text, `3e-5` is a number. Keys are
always text. Anchors and merge keys (`<<: *base`) work; explicit keys beat merged ones.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from tutelage.errors import ConfigError

KeyPath = tuple[str | int, ...]
"""Keys and list positions from the top of a document to one node."""

MAX_NODES = 100_000
"""Nodes after aliases are expanded; more is a mistake or an attack."""

_MERGE = "tag:yaml.org,2002:merge"
_CONTAINERS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")
_RESOLVERS: tuple[tuple[str, str, str], ...] = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("merge", r"<<", "<"),
    ("null", r"~|null|Null|NULL|", "~nN"),
)


class CoreLoader(yaml.SafeLoader):
    """A safe loader that resolves scalars by YAML 1.2."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


class CoreDumper(yaml.SafeDumper):
    """A safe dumper that quotes whatever YAML 1.1 or 1.2 would not read as text."""


for _tag, _pattern, _first in _RESOLVERS:
    _starts = [*_first, ""] if _tag == "null" else list(_first)
    for _class in (CoreLoader, CoreDumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _starts)


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = node.value
    if text[:2] in ("0o", "0x"):
        return int(text, 0)
    return int(text)


def _construct_float(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    return float(node.value.lower().replace(".inf", "inf").replace(".nan", "nan"))


CoreLoader.add_constructor("tag:yaml.org,2002:int", _construct_int)
CoreLoader.add_constructor("tag:yaml.org,2002:float", _construct_float)


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None if text.isprintable() else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


CoreDumper.add_representer(str, _represent_text)


@dataclass
class Document:
    """What one YAML text holds."""

    data: Any
    lines: dict[KeyPath, int] = field(default_factory=dict)
    """Line (from 1) of each key, or of each item of a list."""


def parse_yaml(text: str, name: str) -> Document:
    """Read one YAML document; `name` stands in messages. Raises ConfigError with line and column."""
    try:
        loader = CoreLoader(text)
        reader = _Reader(loader, name)
        node = loader.get_single_node()
        return Document(None if node is None else reader.value(node, ()), reader.lines)
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, name) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(
            f"{name}:{line}: character {text[error.position]!r} cannot stand in YAML", fix="remove it"
        ) from None
    except RecursionError:
        raise ConfigError(f"{name}: nested too deep", fix="write it with fewer levels") from None


def _syntax_error(error: yaml.MarkedYAMLError, name: str) -> ConfigError:
    mark = error.problem_mark or error.context_mark
    where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
    problem = error.problem or "cannot be read"
    fix = "check brackets, colons and indentation just above this place"
    if "'\\t'" in problem:
        problem, fix = "a tab stands where YAML wants spaces", "indent with spaces"
    elif "undefined alias" in problem:
        fix = "define it above with &NAME"
    elif "expected a single document" in (error.context or "") + problem:
        problem, fix = "a second document starts here", "keep one job a file; remove the '---'"
    line = mark.get_snippet(indent=4, max_length=100) if mark else None
    return ConfigError(f"{where}: {problem}" + (f"\n{line}" if line else ""), fix=fix)


class _Reader:
    """Turns nodes into data, and remembers lines."""

    def __init__(self, loader: CoreLoader, name: str) -> None:
        self.lines: dict[KeyPath, int] = {}
        self._loader = loader
        self._name = name
        self._open: set[int] = set()
        self._count = 0

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        self._count += 1
        if self._count > MAX_NODES:
            raise ConfigError(f"{self._name}: more than {MAX_NODES} values", fix="use fewer nested aliases")
        if id(node) in self._open:
            raise self._error(node, "an alias contains itself", "write the values out")
        self._open.add(id(node))
        try:
            if not isinstance(node, yaml.ScalarNode) and node.tag not in _CONTAINERS:
                raise self._error(node, f"tag {node.tag} is not read here", "remove the tag")
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, path)
            if isinstance(node, yaml.SequenceNode):
                return [self._item(child, (*path, i)) for i, child in enumerate(node.value)]
            return self._scalar(node)
        finally:
            self._open.discard(id(node))

    def _item(self, node: yaml.Node, path: KeyPath) -> Any:
        self.lines[path] = node.start_mark.line + 1
        return self.value(node, path)

    def _scalar(self, node: yaml.Node) -> Any:
        try:
            return self._loader.construct_object(node, deep=True)
        except ValueError as error:
            raise self._error(node, str(error), "write it in quotes") from None
        except yaml.constructor.ConstructorError:
            raise self._error(node, f"tag {node.tag} is not read here", "remove the tag") from None

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for base in reversed(self._bases(node)):
            merged |= self.value(base, path)
        explicit: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                raise self._error(key_node, "a key must be a word", "write KEY: value")
            key = key_node.value
            if key in explicit:
                raise self._error(key_node, f"key '{key}' stands twice", "keep one of them")
            self._forget((*path, key))
            self.lines[(*path, key)] = key_node.start_mark.line + 1
            explicit[key] = self.value(value_node, (*path, key))
        return explicit | {key: value for key, value in merged.items() if key not in explicit}

    def _bases(self, node: yaml.MappingNode) -> list[yaml.MappingNode]:
        """The mappings that `<<` brings in; of several the first one wins."""
        bases: list[yaml.MappingNode] = []
        for key_node, value_node in node.value:
            if key_node.tag != _MERGE:
                continue
            for base in value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]:
                if not isinstance(base, yaml.MappingNode):
                    raise self._error(base, "'<<' wants a mapping or a list of mappings", "write <<: *NAME")
                bases.append(base)
        return bases

    def _forget(self, path: KeyPath) -> None:
        if path not in self.lines:
            return
        for known in [known for known in self.lines if known[: len(path)] == path]:
            del self.lines[known]

    def _error(self, node: yaml.Node, problem: str, fix: str) -> ConfigError:
        mark = node.start_mark
        return ConfigError(f"{self._name}:{mark.line + 1}:{mark.column + 1}: {problem}", fix=fix)
