"""What `tutelage update` learns one after another: its --data, or the increments of a --stream."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tutelage.cli.update_order import source_name
from tutelage.errors import ConfigError, DataError

if TYPE_CHECKING:
    from tutelage.cli.console import Console


@dataclass(frozen=True)
class Step:
    """One increment, before anything of it is read."""

    data: str
    name: str
    settings: tuple[str, ...] = ()
    """Overrides as on the command line, which count more."""
    where: str = "--data"
    """What it was read from, for messages."""

    def with_own(self, overrides: Sequence[str]) -> list[str]:
        """All overrides, where those of the command line count."""
        return merged(self.settings, overrides)


def increments_of(data: list[str], name: str | None, stream: Path | None) -> list[Step]:
    """The increments in their order. Raises ConfigError."""
    if bool(data) == (stream is not None):
        raise ConfigError(
            "an update needs either --data or --stream", fix="`tutelage update MODEL --data new.parquet`"
        )
    if name is not None and (stream is not None or len(data) > 1):
        raise ConfigError("--name is for one --data", fix="leave it out: each is called by its file's name")
    steps = [Step(one, name or source_name(one)) for one in data] if stream is None else _from_file(stream)
    names = [step.name for step in steps]
    if len(set(names)) < len(names):
        flag, fix = ("--data", "rename a file") if stream is None else (str(stream), "give one a `name`")
        raise ConfigError(f"{flag}: two are called '{max(names, key=names.count)}'", fix=fix)
    return steps


def _from_file(path: Path) -> list[Step]:
    from tutelage.config.update_stream import read_stream

    stream = read_stream(path)
    steps = []
    for number, one in enumerate(stream.increments, 1):
        name = one.name or source_name(one.data)
        layers = [
            # JSON is YAML, which is what an override's value is read as.
            [f"{_named(key, name)}={json.dumps(value, ensure_ascii=False)}" for key, value in layer.items()]
            for layer in stream.layers(one)
        ]
        steps.append(Step(one.data, name, tuple(merged(*layers)), f"{path}: increment {number}"))
    return steps


def _named(key: str, name: str) -> str:
    """The key with the source's name in the place of NAME, quoted where it holds a dot."""
    begin = "data.sources.NAME."
    quoted = f'"{name}"' if "." in name else name
    return f"data.sources.{quoted}.{key.removeprefix(begin)}" if key.startswith(begin) else key


def merged(*layers: Sequence[str]) -> list[str]:
    """Overrides of which later layers count: a key replaces what earlier ones say of it and below it.

    Overrides of one command are sorted by the length of their keys, so without this a longer key of a file
    would win over a shorter one of the command.
    """
    from tutelage.config.overrides import parse_override

    kept: list[str] = []
    for layer in layers:
        over = [parse_override(word).words for word in layer]
        kept = [
            word
            for word in kept
            if not any(parse_override(word).words[: len(words)] == words for words in over)
        ]
        kept += layer
    return kept


def check_step(console: Console, ref: str, step: Step, overrides: list[str]) -> None:
    """What can be checked of an increment before the first one. Raises ConfigError or DataError."""
    from tutelage.cli.update_order import open_order
    from tutelage.config.data import FileSource
    from tutelage.data.sources import open_source

    try:
        order = open_order(console, ref, step.data, step.with_own(overrides), step.name)
        job = order.job.loaded.job
        source = job.data.sources[step.name]
        if isinstance(source, FileSource):
            _ = open_source(step.name, source, order.job.home, job.task).stamp
    except (ConfigError, DataError) as problem:
        kind = DataError if isinstance(problem, DataError) else ConfigError
        raise kind(f"{step.where} ({step.name}): {problem.problem}", fix=problem.fix) from problem


def stream_command(
    ref: str, steps: Sequence[Step], stream: Path | None, overrides: Sequence[str], *, compute: bool
) -> str:
    """The command that makes all increments again."""
    given = (
        ["--stream", str(stream)] if stream else [word for step in steps for word in ("--data", step.data)]
    )
    words = ["tutelage", "update", ref, *given, *overrides, *(["--compute-state"] if compute else [])]
    return shlex.join(words)


def say_increment(console: Console, number: int, total: int, step: Step) -> None:
    """Where a stream is."""
    console.say(f"\n{number} of {total}: {step.name}, {step.data}")
