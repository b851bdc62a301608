"""Every extra installs with the pins of constraints.txt.

The `dev` extra asks for all others, so `make setup` resolves them with pip itself. What is read here is the
requirements that the installed packages name.
"""

from __future__ import annotations

import importlib.metadata
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
PINS = {
    canonicalize_name(name): version
    for name, _, version in (
        line.partition("==")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").split("\n")
        if line and not line.startswith("#")
    )
}


def _requires(name: str) -> list[str]:
    if name == "tutelage":
        own = [f"{line}; extra == '{extra}'" for extra, lines in EXTRAS.items() for line in lines]
        return [*PROJECT["dependencies"], *own]
    return importlib.metadata.requires(name) or []


def _asked(first: Requirement) -> Iterator[tuple[str, Requirement]]:
    """Who asks for what, from a first requirement downwards, as pip would walk."""
    seen: set[tuple[str, str]] = set()
    waiting = [first]
    while waiting:
        parent = waiting.pop()
        name = canonicalize_name(parent.name)
        for extra in ("", *parent.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            for line in _requires(name):
                one = Requirement(line)
                if one.marker is None or one.marker.evaluate({"extra": extra}):
                    waiting.append(one)
                    yield name, one


@pytest.mark.parametrize("extra", ["", *EXTRAS])
def test_an_extra_installs_with_our_pins(extra: str) -> None:
    """Each package that it brings is pinned, and no pin is outside what another package asks for."""
    faults, count = set(), 0
    try:
        for parent, asked in _asked(Requirement(f"tutelage[{extra}]" if extra else "tutelage")):
            name = canonicalize_name(asked.name)
            count += 1
            if name == "tutelage":
                continue
            if name not in PINS:
                faults.add(f"{name}, which {parent} asks for, has no pin")
            elif not asked.specifier.contains(PINS[name], prereleases=True):
                faults.add(f"{parent} asks for {asked}, and the pin is {PINS[name]}")
    except importlib.metadata.PackageNotFoundError as missing:
        pytest.fail(f"{missing.name} is not installed: run `make setup`")
    assert not faults
    assert count > len(PROJECT["dependencies"])


def test_setup_resolves_all_extras() -> None:
    """`make setup` installs the extra dev; through it pip itself meets the requirements of every other."""
    (own,) = (one for one in map(Requirement, EXTRAS["dev"]) if one.name == "tutelage")
    assert own.extras == set(EXTRAS) - {"dev"}
