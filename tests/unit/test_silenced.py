"""Every place that silences a library stands in docs/silenced.md, with what checks it instead."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.unit.advice import ROOT, trees

pytestmark = pytest.mark.unit

CALLS = {
    *("filterwarnings", "simplefilter", "setLevel", "addFilter", "set_verbosity", "set_verbosity_error"),
    *("disable_progress_bar", "disable_progress_bars", "redirect_stdout", "redirect_stderr"),
}
KEYWORDS = {"capture_output", "log_to_driver", "log_level", "logging_level", "logging_config"}
ATTRIBUTES = {"log_severity_level", "showwarning", "print_to_stdstream"}


def _silences(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in CALLS:
                yield name
            yield from (word.arg for word in node.keywords if word.arg in KEYWORDS)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and node.attr in ATTRIBUTES:
            yield node.attr


def test_every_place_that_silences_is_in_the_list() -> None:
    listed = re.findall(r"^\| `([\w/.]+)` \|", (ROOT / "docs" / "silenced.md").read_text(), re.MULTILINE)
    silencing = {path for path, tree in trees() if any(_silences(tree))}
    assert silencing - set(listed) == set()
    assert {path for path in listed if path.endswith(".py")} - silencing == set()
    assert all((ROOT / path).exists() for path in listed)
