"""The ready-made spaces by name. One more is one small module and one line here."""

from __future__ import annotations

from collections.abc import Callable

from tune_spaces import architectures, combiners, layers, objectives, optimiser, schedules
from tune_spaces.space import Space
from tutelage.config import JobConfig
from tutelage.config.base import unknown_key
from tutelage.errors import ConfigError
from tutelage.models.describe import ModelCard

SPACES: dict[str, Callable[[JobConfig, ModelCard], Space]] = {
    "schedules": schedules.space,
    "combiners": combiners.space,
    "teacher-weights": combiners.weights,
    "objectives": objectives.space,
    "optimiser": optimiser.space,
    "layers": layers.space,
    "architectures": architectures.space,
}
DEFAULT = ("schedules", "optimiser")


def space_of(job: JobConfig, student: ModelCard) -> Space:
    """What the job searches: its named spaces, then its own keys, which go before those of a name.

    Raises ConfigError for a name that is none, and where no key is left.
    """
    names = job.search.spaces or ([] if job.search.space else list(DEFAULT))
    found = Space({})
    for name in names:
        if name not in SPACES:
            hint = unknown_key(name, SPACES).removeprefix("unknown key ")
            raise ConfigError(f"search.spaces: no space {hint}", fix=f"use some of {', '.join(SPACES)}")
        found |= SPACES[name](job, student)
    found |= Space(dict(job.search.space))
    if not found.keys:
        raise ConfigError(
            f"search: spaces {', '.join(names)} hold no key that this job could change",
            fix="name keys in search.space",
        )
    return found
