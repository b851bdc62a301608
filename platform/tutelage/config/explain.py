"""Validation of a whole job, with every problem said in the words of the file."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from tutelage.config.base import unknown_key
from tutelage.config.data import DataConfig
from tutelage.config.dump import inline
from tutelage.config.job import JobConfig
from tutelage.config.overrides import Origins
from tutelage.config.shape import (
    SLUG_WORDS,
    any_of,
    describe,
    dotted,
    step,
    tag_of,
    type_at,
    variant,
    variants,
    walk,
)
from tutelage.config.yaml_source import KeyPath
from tutelage.errors import ConfigError


@dataclass(frozen=True)
class Problem:
    """One thing that cannot be meant."""

    key: str
    text: str
    origin: str = ""

    def __str__(self) -> str:
        start = f"{self.key}: " if self.key else ""
        return f"{start}{self.text}" + (f" ({self.origin})" if self.origin else "")


class JobError(ConfigError):
    """A job that cannot be meant; `problems` holds every reason."""

    def __init__(self, name: str, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        fix = "correct it there; `tutelage config schema` and docs/config.md list every key"
        if len(problems) == 1:
            super().__init__(f"{name}: {problems[0]}", fix=fix)
            return
        lines = "\n".join(f"  {problem}" for problem in problems)
        super().__init__(
            f"{name}: {len(problems)} problems\n{lines}", fix=fix.replace("it there", "them there")
        )


def validate_job(data: dict[str, Any], origins: Origins, name: str) -> JobConfig:
    """The job that `data` describes. Raises JobError with all problems at once."""
    data = _with_source_types(data)
    unknown = _unknown_keys(data, origins)
    try:
        job = JobConfig.model_validate(_without(data, set(unknown)))
    except ValidationError as error:
        raise JobError(name, [*unknown.values(), *_explain(error, data, origins, unknown)]) from None
    if unknown:
        raise JobError(name, list(unknown.values()))
    return job


def _unknown_keys(data: dict[str, Any], origins: Origins) -> dict[KeyPath, Problem]:
    """Keys that no section has. Pydantic stops at the first of a section; this finds all."""
    found: dict[KeyPath, Problem] = {}
    for path, value, annotation in walk(data, JobConfig):
        section = variant(annotation, value)
        if section is None or not isinstance(value, dict):
            continue
        for key in value:
            if key in section.model_fields:
                continue
            text = unknown_key(key, section.model_fields)
            owners = [tag_of(other) for other in variants(annotation) if key in other.model_fields]
            if owners:
                home = any_of([str(owner) for owner in owners])
                text = f"type {tag_of(section)} has no '{key}'; it belongs to type {home}"
            found[(*path, key)] = Problem(dotted(path, data), text, _origin((*path, key), origins))
    return found


def _with_source_types(data: dict[str, Any]) -> dict[str, Any]:
    """A source without `type` is of type `files`, as the data section itself says."""
    section = data.get("data")
    fill: Any = DataConfig._files_is_the_default_type
    return {**data, "data": fill(section)} if isinstance(section, dict) else data


def _without(value: Any, paths: set[KeyPath], here: KeyPath = ()) -> Any:
    if isinstance(value, dict):
        return {k: _without(v, paths, (*here, k)) for k, v in value.items() if (*here, k) not in paths}
    if isinstance(value, list):
        return [_without(v, paths, (*here, i)) for i, v in enumerate(value)]
    return value


def _explain(
    error: ValidationError, data: dict[str, Any], origins: Origins, unknown: dict[KeyPath, Problem]
) -> list[Problem]:
    problems: dict[tuple[KeyPath, bool], Problem] = {}
    for detail in error.errors():
        path, is_key = _data_path(detail, data)
        if (path, is_key) in problems or _is_mistyped(detail, path, unknown):
            continue
        problems[(path, is_key)] = _problem(detail, path, is_key, data, origins)
    return list(problems.values())


def _data_path(detail: ErrorDetails, data: Any) -> tuple[KeyPath, bool]:
    """The place in the file that pydantic means: its own path without union branches."""
    path: KeyPath = ()
    for key in detail["loc"]:
        if key == "[key]":
            return path, True
        inside = (isinstance(data, dict) and key in data) or step(data, key) is not None
        if inside:
            path, data = (*path, key), step(data, key)
    if detail["type"] == "missing":
        path = (*path, detail["loc"][-1])
    elif detail["type"].startswith("union_tag"):
        path = (*path, "type")
    return path, False


def _is_mistyped(detail: ErrorDetails, path: KeyPath, unknown: dict[KeyPath, Problem]) -> bool:
    """A missing key that the user wrote with a slip is one problem, not two."""
    if detail["type"] != "missing":
        return False
    neighbours = [str(other[-1]) for other in unknown if other[:-1] == path[:-1]]
    return bool(difflib.get_close_matches(str(path[-1]), neighbours, n=1, cutoff=0.5))


def _problem(detail: ErrorDetails, path: KeyPath, is_key: bool, data: Any, origins: Origins) -> Problem:
    key = dotted(path, data)
    origin = _origin(path, origins)
    kind = detail["type"]
    if kind == "value_error":
        return _model_problem(str(detail["ctx"]["error"]), path, data, origins)
    if is_key:
        return Problem(dotted(path[:-1], data), f"'{path[-1]}' cannot be a name; wants {SLUG_WORDS}", origin)
    annotation = type_at(path, JobConfig, data)
    if kind.startswith("union_tag"):
        section = type_at(path[:-1], JobConfig, data)
        wants = any_of([str(tag_of(one)) for one in variants(section)])
        given = "missing" if kind == "union_tag_not_found" else f"{show(detail['ctx']['tag'])} is not allowed"
        if isinstance(path[-2], int):  # the wrong type would name the item
            key = ".".join([dotted(path[:-2], data), str(path[-2]), "type"])
        return Problem(key, f"{given}; wants {wants}", origin)
    wants = f"; wants {describe(annotation)}" if annotation is not None else f"; {detail['msg']}"
    if kind == "missing":
        return Problem(key, f"missing{wants}", origin)
    return Problem(key, f"{show(detail['input'])} is not allowed{wants}{_near(detail)}", origin)


def _near(detail: ErrorDetails) -> str:
    """A suggestion for a mistyped choice, and for text that was read as something else."""
    if detail["type"] == "literal_error":
        choices = re.findall(r"'([^']*)'", str(detail.get("ctx", {}).get("expected", "")))
        near = difflib.get_close_matches(str(detail["input"]), choices, n=1, cutoff=0.5)
        return f"; did you mean {near[0]}?" if near else ""
    if detail["type"] == "string_type" and isinstance(detail["input"], (bool, int, float)):
        return "; write it in quotes"
    return ""


def _model_problem(text: str, path: KeyPath, data: Any, origins: Origins) -> Problem:
    """A sentence that a section's own check wrote; the first key in it that was set gives the origin."""
    key = dotted(path, data)
    for name in path:
        data = step(data, name)
    for word in re.findall(r"[A-Za-z_][\w-]*(?:\.[\w-]+)*", text):
        place, node = path, data
        for part in word.split("."):
            keys = range(len(node)) if isinstance(node, list) else node if isinstance(node, dict) else ()
            found = next((k for k in keys if part in (k, dotted((k,), node))), None)
            if found is None:
                break
            place, node = (*place, found), step(node, found)
        if place != path and place in origins:
            return Problem(key, text, origins[place])
    return Problem(key, text, _origin(path, origins))


def _origin(path: KeyPath, origins: Origins) -> str:
    """Where a node was set; for one that is missing, where the section around it starts."""
    while path:
        if path in origins:
            return origins[path]
        path = path[:-1]
    return ""


def show(value: Any, limit: int = 60) -> str:
    """A value on one line, as YAML, cut when long."""
    text = inline(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
