"""What `tutelage update` learns one after another: its --data, or the increments of a --stream."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tutelage.errors import ConfigError

if TYPE_CHECKING:
    from tutelage.cli.console import Console

CATALOG = "catalog:"


@dataclass(frozen=True)
class Step:
    """One increment, before anything of it is read."""

    data: str
    name: str
    settings: tuple[str, ...] = ()
    """Overrides as on the command line, before the user's own."""


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
    for one in stream.increments:
        name = one.name or source_name(one.data)
        settings = {
            re.sub(r"^data\.sources\.NAME\.", f"data.sources.{name}.", key): value
            for key, value in stream.settings(one).items()
        }
        # JSON is YAML, which is what an override's value is read as.
        words = tuple(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in settings.items())
        steps.append(Step(one.data, name, words))
    return steps


def source_name(data: str) -> str:
    """`reviews/nyt` and `data/NYT 2.parquet` as `nyt` and `nyt-2`."""
    stem = Path(data.removeprefix(CATALOG)).name.split(".")[0].lower()
    return re.sub(r"[^a-z0-9]+", "-", stem).strip("-") or "new"


def say_increment(console: Console, number: int, total: int, step: Step) -> None:
    """Where a stream is."""
    console.say(f"\n{number} of {total}: {step.name}, {step.data}")
