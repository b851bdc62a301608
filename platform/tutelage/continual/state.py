"""What a version carries so that the next update needs nothing else: not its data, not its machine.

state/state.json             what is held and why, labels, every update so far with its accuracies
state/anchors.safetensors    precision and centre of each weight, by name
    state/blocks.safetensors     Kronecker factors of linear weights, where a regulariser uses them
state/replay/                earlier texts
state/heldout/               rows that no training may see, to measure what is forgotten
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tutelage.errors import ConfigError, StoreError
from tutelage.files import atomic_write, digest_file

FOLDER = "state"
FORMAT = 2
_READ = (1, FORMAT)
"""The first format had no groups of labels."""
WEIGHTS = "model.safetensors"
_ABOUT, _REPLAY, _HELDOUT = "state.json", "replay", "heldout"
_ANCHORS, _BLOCKS = "anchors.safetensors", "blocks.safetensors"


@dataclass(frozen=True)
class Learned:
    """One training in the life of a version: the first one, or an update."""

    run: str
    slices: list[str]
    """What was new in it."""
    accuracy: dict[str, float]
    """On the held-out rows of every slice known afterwards."""
    before: dict[str, float] = field(default_factory=dict)
    """On those of the new slices before it."""


@dataclass(frozen=True)
class About:
    """What state.json says."""

    model: str
    """blake3 of the weights that the state was made for."""
    labels: list[str]
    """Of all trainings so far, in the order of the head's rows."""
    seed: int
    held: dict[str, Any] | None
    """The regulariser whose importance is kept; None keeps none."""
    measured: dict[str, Any] = field(default_factory=dict)
    """How importance was measured last: kind, mode, examples."""
    history: list[Learned] = field(default_factory=list)
    groups: list[int] = field(default_factory=list)
    """For each label a number that labels of one training share, from 0; empty where nobody counted."""
    format: int = FORMAT

    def groups_of(self, labels: list[str]) -> tuple[int, ...]:
        """Groups of a head that begins with the known labels; new ones are a group of their own."""
        known = self.groups or [0] * len(self.labels)
        return (*known, *[max(known) + 1] * (len(labels) - len(known)))


@dataclass(frozen=True)
class State:
    """The state folder of a version."""

    folder: Path
    about: About

    @property
    def anchors(self) -> Path:
        """File of precisions and centres; there when something is held."""
        return self.folder / _ANCHORS

    @property
    def blocks(self) -> Path:
        """File of Kronecker blocks; there when they hold."""
        return self.folder / _BLOCKS

    @property
    def replay(self) -> Path:
        """Folder of the replay buffer; there when texts are kept."""
        return self.folder / _REPLAY

    @property
    def heldout(self) -> Path:
        """Folder of held-out rows, SLICE.SPLIT.parquet."""
        return self.folder / _HELDOUT

    @classmethod
    def read(cls, version: Path) -> State | None:
        """The state of a version's folder; None when it has none.

        Raises:
            StoreError: a state that cannot be read.
            ConfigError: one that was made for other weights.
        """
        folder = version / FOLDER
        if not (folder / _ABOUT).is_file():
            return None
        try:
            kept = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
            found = kept.get("format", 1)
            # Looked at first: a newer state has keys that this one does not know.
            about = _about(kept) if found in _READ else None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as problem:
            raise StoreError(
                f"{folder / _ABOUT} cannot be read: {problem}", fix="restore the version from a copy"
            ) from problem
        if about is None:
            raise StoreError(
                f"{folder} has format {found}, this tutelage reads {FORMAT}",
                fix="update with the tutelage that made it, or make the state anew with --compute-state",
            )
        if not (version / WEIGHTS).is_file():
            raise StoreError(f"{version / WEIGHTS} is missing", fix="restore the version from a copy")
        found = digest_file(version / WEIGHTS)
        if about.model != found:
            raise ConfigError(
                f"{folder} was made for weights {about.model[:12]}, and the version's are {found[:12]}: "
                "importance measured on another model says nothing of this one",
                fix="make it anew with --compute-state",
            )
        return cls(folder, about)

    @classmethod
    def begin(cls, version: Path, about: About) -> State:
        """A state folder to be filled; `close` makes it one."""
        folder = version / FOLDER
        (folder / _HELDOUT).mkdir(parents=True, exist_ok=True)
        return cls(folder, about)

    def close(self) -> None:
        """Write state.json, by which a folder becomes a state."""
        with atomic_write(self.folder / _ABOUT) as file:
            json.dump(asdict(self.about), file, indent=1, ensure_ascii=False)


def _about(kept: dict[str, Any]) -> About:
    history = [Learned(**one) for one in kept.pop("history")]
    return About(**kept, history=history)
