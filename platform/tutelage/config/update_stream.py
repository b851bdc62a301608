"""Increments that come one after another, as a file: what `tutelage update --stream` reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from tutelage.config.base import Section, Slug
from tutelage.config.yaml_source import parse_yaml
from tutelage.errors import ConfigError

Scenario = Literal["domain", "class", "task"]

SETTINGS: dict[Scenario, dict[str, Any]] = {
    "domain": {"update.grow": False, "update.compete": "all"},
    "class": {"update.grow": True, "update.compete": "all"},
    "task": {"update.grow": True, "update.compete": "own"},
}
"""What a scenario means (van de Ven and Tolias, arXiv:1904.07734)."""


class Step(Section):
    """One increment."""

    data: str
    """File, folder, glob, URL, or catalog:NAME/PART."""
    name: Slug | None = None
    """What the data is called; its file's name."""
    set: dict[str, Any] = Field(default={})
    """Keys of the job that hold for this increment, as `update.train.lr: 1.0e-4`. `NAME.` stands for the new
    source: `data.sources.NAME.limit`."""


class UpdateStream(Section):
    """A scenario and its increments."""

    scenario: Scenario = "domain"
    """`domain`: the same classes in new data; `class`: new classes, and all compete; `task`: new classes that
    are told apart from those of their own increment alone."""
    set: dict[str, Any] = Field(default={})
    """Keys of the job that hold for all increments."""
    increments: Annotated[list[Step], Field(min_length=1)]

    @model_validator(mode="after")
    def _no_key_of_the_scenario(self) -> UpdateStream:
        for place, keys in (("set", self.set), *(("increments.set", step.set) for step in self.increments)):
            taken = next((key for key in SETTINGS[self.scenario] if key in _dotted(keys)), None)
            if taken is not None:
                raise ValueError(f"{place}: {taken} is what `scenario` says; choose another scenario")
        return self

    def layers(self, step: Step) -> list[dict[str, Any]]:
        """Keys of the job for one increment; later layers count."""
        return [{**SETTINGS[self.scenario], **self.set}, step.set]


def _dotted(keys: dict[str, Any], above: str = "") -> set[str]:
    """All keys that are set, those of mappings within too."""
    found = set()
    for key, value in keys.items():
        found.add(above + key)
        if isinstance(value, dict):
            found |= _dotted(value, f"{above}{key}.")
    return found


def read_stream(path: Path) -> UpdateStream:
    """The file. Raises ConfigError that names file, key and value."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        said = problem.strerror if isinstance(problem, OSError) else "the file is not UTF-8"
        raise ConfigError(f"--stream {path}: {said}", fix="name a YAML file of increments") from problem
    document = parse_yaml(text, str(path))
    try:
        return UpdateStream.model_validate(document.data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ConfigError(
            f"{path}: {where}: {first['msg'].removeprefix('Value error, ')}",
            fix="examples/streams/reviews.yaml has all keys",
        ) from error
