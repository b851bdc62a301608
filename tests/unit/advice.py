"""What the code says to people: its strings, with `{}` where a value is put in."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
CODE = ("platform/tutelage", "actors", "serve_apps", "tune_spaces")


def trees() -> Iterator[tuple[str, ast.Module]]:
    """Each module's path and syntax."""
    for folder in CODE:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))


def texts(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and text of every string below a node, but for docstrings."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    if isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.Constant) else "{}" for part in node.values]
        yield node.lineno, "".join(map(str, parts))
        return
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            yield node.lineno, node.value
        return
    for inner in ast.iter_child_nodes(node):
        yield from texts(inner)


def fixes() -> Iterator[tuple[str, str]]:
    """Place and text of all advice: `fix=` of an error, and what is put in variables named for it."""
    for path, tree in trees():
        for node in ast.walk(tree):
            value: ast.AST | None = None
            if isinstance(node, ast.keyword) and node.arg == "fix":
                value = node.value
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                if isinstance(target, ast.Name) and target.id.strip("_").lower() in (
                    "fix",
                    "fixes",
                    "defect",
                ):
                    value = node.value
            if value is not None:
                for line, text in texts(value):
                    yield f"{path}:{line}", text


def said() -> Iterator[tuple[str, str]]:
    """Place and text of all strings."""
    for path, tree in trees():
        for node in tree.body:
            for line, text in texts(node):
                yield f"{path}:{line}", text
