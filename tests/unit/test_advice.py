"""What a message advises exists: commands, options, keys, values, files, variables.

The advice itself is tried where its fault is tested.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from tests.unit.advice import ROOT, fixes, said
from tutelage.cli.main import VERBS, load_verb
from tutelage.config.job import JobConfig
from tutelage.config.reference import _places
from tutelage.config.yaml_source import parse_yaml

pytestmark = pytest.mark.unit

COMMAND = re.compile(r"\btutelage ((?:-{0,2}[\w.{}/*-]+ ?)+)")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
KEY = re.compile(r"(?<![\w./<-])(?:[a-z_]+|\{\})(?:\.(?:[a-z_0-9]+|\*|\{\}))+(?![\w/(])")
SETTING = re.compile(r"(?<![\w./<-])((?:[a-z_]+|\{\})(?:\.(?:[a-z_0-9]+|\*|\{\}))+)(?:=|: )([\w{}.-]+)")
FILE = re.compile(r"\b(?:examples|docs|scripts)/[\w/.-]+\w")
NAMES = {"llama.cpp", "tokenizer.save_pretrained"}
"""What has a dot and is no key."""
ELSEWHERE = {"--logprobs-mode", "--max-logprobs", "--shm-size"}
"""Options of other programs."""
TITLES = {"job", "endpoint"}
"""What follows the name where it is no command: `tutelage job`, a schema's title."""
ANYWHERE = {"--json", "--quiet", "--debug", "--help", "--version"}

Place = str


def _fields() -> dict[tuple[str, ...], list[FieldInfo]]:
    """Each key of a job by its parts, a name or a position as `*`; several variants may share one."""
    found: dict[tuple[str, ...], list[FieldInfo]] = {}
    for section, keys in _places().items():
        for key in keys:
            for name, field in section.model_fields.items():
                path = f"{key}.{name}".lstrip(".").replace("[]", ".*").replace(".NAME", ".*")
                found.setdefault(tuple(path.split(".")), []).append(field)
    return found


FIELDS = _fields()
COMMANDS: dict[str, Any] = {verb.name: load_verb(verb) for verb in VERBS}
FIXES = list(fixes())


def _is_name(word: str) -> bool:
    return word in NAMES or word.endswith((".json", ".yaml", ".parquet", ".txt"))


def _matching(key: str) -> list[FieldInfo]:
    """The fields whose path ends like the key; `{}` and `*` stand for any name, a first `{}` for any path."""
    parts = key.removeprefix("{}.").split(".")
    return [
        field
        for path, fields in FIELDS.items()
        if len(path) >= len(parts)
        and all(
            ours in ("*", "{}", theirs) or theirs == "*"
            for ours, theirs in zip(parts, path[-len(parts) :], strict=True)
        )
        for field in fields
    ]


def _options(command: Any) -> set[str]:
    own = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for inner in getattr(command, "commands", {}).values():
        own |= _options(inner)
    return own


def _problem(words: list[str]) -> str:
    """What is wrong with `tutelage WORDS`; empty when it could be called."""
    verb = words[0].strip(".")
    if verb.isupper() or verb in ANYWHERE or "{}" in verb:
        return ""
    command = COMMANDS.get(verb)
    if command is None:
        return f"no verb {verb}"
    rest = words[1:]
    inner = getattr(command, "commands", None)
    if inner and rest and rest[0].islower() and not rest[0].startswith("-"):
        command = inner.get(rest[0])
        if command is None:
            return f"no {verb} {rest[0]}"
    known = _options(command) | ANYWHERE
    return " ".join(f"no option {word}" for word in rest if word.startswith("--") and word not in known)


def test_every_command_in_a_message_exists() -> None:
    """`tutelage VERB ...` anywhere in the code or its answers names a verb and options of that verb."""
    commands = [
        (place, match.split())
        for place, text in said()
        if "`" in text or ": tutelage" in text or text.startswith("tutelage ")
        for match in COMMAND.findall(text)
    ]
    commands = [(place, words) for place, words in commands if words[0] not in TITLES]
    assert len(commands) > 30
    assert [(place, words, _problem(words)) for place, words in commands if _problem(words)] == []


def test_every_option_in_a_fix_exists() -> None:
    known = ANYWHERE | ELSEWHERE | {option for command in COMMANDS.values() for option in _options(command)}
    options = [(place, option) for place, text in FIXES for option in OPTION.findall(text)]
    assert len(options) > 10
    assert [(place, option) for place, option in options if option not in known] == []


def test_every_key_in_a_fix_exists() -> None:
    keys = [(place, key) for place, text in FIXES for key in KEY.findall(text) if not _is_name(key)]
    keys = [(place, key.removesuffix(".*")) for place, key in keys]
    assert len(keys) > 80
    top = {(name,) for name in JobConfig.model_fields}
    assert [(place, key) for place, key in keys if (key,) not in top and not _matching(key)] == []


def _settings() -> Iterator[tuple[Place, str, str]]:
    for place, text in FIXES:
        for key, value in SETTING.findall(text):
            if "{" not in value and value != "the":
                yield place, key, value


def test_every_value_in_a_fix_is_allowed() -> None:
    """`key=value` holds for the key: one that the advice has wrong would only be refused in turn."""
    settings = list(_settings())
    assert len(settings) > 12
    refused = []
    for place, key, value in settings:
        fields = _matching(key)
        if not any(_allows(field, parse_yaml(f"value: {value}", "fix").data["value"]) for field in fields):
            refused.append((place, key, value))
    assert refused == []


def _allows(field: FieldInfo, value: object) -> bool:
    try:
        TypeAdapter(Annotated[field.annotation, field]).validate_python(value)
    except ValidationError:
        return False
    return True


def test_every_file_in_a_message_exists() -> None:
    files = {(place, file) for place, text in said() for file in FILE.findall(text)}
    assert files
    assert [(place, file) for place, file in sorted(files) if not (ROOT / file).exists()] == []


def test_every_fix_is_a_fix() -> None:
    """Not empty, and no sentence: it stands behind `fix:`."""
    assert len(FIXES) > 250
    assert [(place, text) for place, text in FIXES if text.endswith(".")] == []
