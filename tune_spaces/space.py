"""What a search may change: keys of the job, and the values that each may take."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from tutelage.config import JobConfig
from tutelage.config.explain import validate_job
from tutelage.config.overrides import Override, apply_overrides, parse_override
from tutelage.config.search import Choice, FloatRange, IntRange, Searched
from tutelage.errors import ConfigError

Point = dict[str, Any]
"""Key of the job -> its value: one trial."""


@dataclass(frozen=True)
class Space:
    """Keys of a job with the values that each may take."""

    keys: dict[str, Searched]
    base: Point = field(default_factory=dict)
    """Keys that are set in every trial, for searched keys to stand in: a schedule whose ends are searched."""

    def __or__(self, other: Space) -> Space:
        return Space({**self.keys, **other.keys}, {**self.base, **other.base})

    def labels(self, point: Mapping[str, Any]) -> dict[str, float | int | str | bool]:
        """The point in plain values, as Tune, Optuna and tables hold it."""
        return {key: label(value) for key, value in point.items()}

    def point(self, labels: Mapping[str, Any]) -> Point:
        """The point that these labels mean."""
        return {key: self._value(key, labels[key]) for key in self.keys}

    def _value(self, key: str, name: Any) -> Any:
        one = self.keys[key]
        if not isinstance(one, Choice):
            return int(name) if isinstance(one, IntRange) else float(name)
        return next(value for value in one.values if label(value) == name)

    def holds(self, labels: Mapping[str, Any]) -> bool:
        """Whether the labels are a point of this space."""
        return set(labels) == set(self.keys) and all(_within(self.keys[k], v) for k, v in labels.items())

    def grid(self, points: int) -> Iterator[Point]:
        """All combinations; the last key changes fastest, and a range is cut into so many points."""
        columns = [_points(one, points) for one in self.keys.values()]
        for values in product(*columns):
            yield dict(zip(self.keys, values, strict=True))


def label(value: Any) -> float | int | str | bool:
    """One value as Tune and Optuna hold it: numbers, truths and names as they are, all else as JSON."""
    return value if isinstance(value, int | float | str | bool) else json.dumps(value, sort_keys=True)


def job_at(job: JobConfig, space: Space, point: Mapping[str, Any]) -> JobConfig:
    """The job with the values of a point. Raises ConfigError where they cannot stand together."""
    return validate_job(_level(_data_at(job, space, point)), {}, "the search")


def _data_at(job: JobConfig, space: Space, point: Mapping[str, Any]) -> dict[str, Any]:
    data = job.model_dump(mode="json")
    for values in (space.base, point):
        overrides = [Override(words_of(key), deepcopy(value), "the search") for key, value in values.items()]
        apply_overrides(data, {}, overrides, JobConfig)
    return data


def _level(value: Any) -> Any:
    """Schedules that never change become the number that they are, so that equal jobs are equal."""
    if isinstance(value, list):
        return [_level(below) for below in value]
    if not isinstance(value, dict):
        return value
    if {"type", "start", "end"} <= set(value) and value["start"] == value["end"]:
        return value["start"]
    return {key: _level(below) for key, below in value.items()}


def words_of(key: str) -> tuple[str, ...]:
    """The parts of a key, as the command line reads them. Raises ConfigError for a key with an empty part."""
    return parse_override(f"{key}=0").words


def own_point(job: JobConfig, space: Space) -> Point | None:
    """The point that the job is itself; None where it lies outside the space or cannot be said in it."""
    data = _data_at(job, space, {})
    point: Point = {}
    for key in space.keys:
        found = _find(data, words_of(key))
        if found is None or (isinstance(found[0], dict | list) and not isinstance(space.keys[key], Choice)):
            return None
        point[key] = found[0]
    labels = {key: label(value) for key, value in point.items()}
    return space.point(labels) if space.holds(labels) else None


def check_space(job: JobConfig, space: Space, draw: Callable[[], Point], tries: int = 64) -> None:
    """Raise ConfigError for a key that the job does not have or that no value suits.

    A key may exist in some points only (`combiner.sharpness` beside a `combiner.type`), so a key that cannot
    be set alone is tried in whole points.

    Args:
        job: what is searched.
        space: where.
        draw: a random point of the space.
        tries: points that are drawn before a key is given up.
    """
    if not space.keys:
        raise ConfigError("search: nothing to search", fix="name search.spaces, or keys in search.space")
    for key, one in space.keys.items():
        errors = [error for value in _points(one, 2) if (error := _refused(job, space, {key: value}))]
        if not errors:
            continue
        # A value that never stands is a mistake of the space; one that needs company is not.
        for value in _points(one, 2):
            if all(_refused(job, space, {**draw(), key: value}) for _ in range(tries)):
                raise ConfigError(
                    f"search.space.{_quoted(key)}: {label(value)} cannot stand there: {errors[0].problem}",
                    fix="correct the key or its values; `tutelage config schema` lists every key",
                )


def _refused(job: JobConfig, space: Space, point: Point) -> ConfigError | None:
    try:
        job_at(job, space, point)
    except ConfigError as error:
        return error
    return None


def _quoted(key: str) -> str:
    return f'"{key}"'


def _points(one: Searched, points: int) -> list[Any]:
    match one:
        case Choice():
            return list(one.values)
        case IntRange() if one.high - one.low < points:
            return list(range(one.low, one.high + 1))
        case _:
            shares = [n / (points - 1) for n in range(points)]
            values = [_between(one, share) for share in shares]
            return list(dict.fromkeys(round(v) for v in values)) if isinstance(one, IntRange) else values


def _between(one: FloatRange | IntRange, share: float) -> float:
    if share in (0, 1):
        return float(one.high if share else one.low)
    if one.log:
        return math.exp((1 - share) * math.log(one.low) + share * math.log(one.high))
    return (1 - share) * one.low + share * one.high


def _within(one: Searched, name: Any) -> bool:
    if isinstance(one, Choice):
        return any(label(value) == name for value in one.values)
    return isinstance(name, int | float) and not isinstance(name, bool) and one.low <= name <= one.high


def _find(node: Any, words: tuple[str, ...]) -> tuple[Any] | None:
    """The value at a key, in a tuple since it may be null; None where there is no such place."""
    for word in words:
        if isinstance(node, dict) and word in node:
            node = node[word]
            continue
        if isinstance(node, list):
            named = [
                item
                for item in node
                if isinstance(item, dict) and word in (item.get("name"), item.get("type"))
            ]
            if named:
                node = named[0]
                continue
        return None
    return (node,)
