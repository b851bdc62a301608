"""Importance of weights as additive sums, with a stamp of what they were measured on.

Sums merge in any grouping, so parts can be made by any number of workers. Files are safetensors, by name of
parameter, and know nothing of how many workers there were.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tutelage.errors import StoreError
from tutelage.files import atomic_write

Stamp = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Importance:
    """Sums over examples, by name of parameter, fp32."""

    sums: dict[str, Tensor]
    examples: int
    """What the sums are divided by; batches have nothing to do with it."""
    stamp: Stamp = field(default_factory=dict)
    """`kind`, `mode`, `per`, and the digest of the `model` where it is known."""

    def __add__(self, other: Importance) -> Importance:
        """Both parts together. Raises ValueError for parts of different kind or model."""
        if self.stamp != other.stamp or self.sums.keys() != other.sums.keys():
            raise ValueError(f"importance of {self.stamp} cannot be added to that of {other.stamp}")
        sums = {name: value + other.sums[name] for name, value in self.sums.items()}
        return Importance(sums, self.examples + other.examples, self.stamp)

    def mean(self) -> dict[str, Tensor]:
        """The importance itself: sums over the number of examples."""
        return {name: value / max(1, self.examples) for name, value in self.sums.items()}

    def save(self, path: Path) -> None:
        """Write one safetensors file, which appears whole."""
        write_tensors(path, self.sums, {"examples": self.examples, "stamp": self.stamp})

    @classmethod
    def load(cls, path: Path) -> Importance:
        """Read what `save` wrote. Raises StoreError."""
        sums, about = read_tensors(path)
        return cls(sums, int(about["examples"]), about["stamp"])


def write_tensors(path: Path, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    """One safetensors file with a note, written aside and renamed."""
    from safetensors.torch import save

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(about, sort_keys=True)
    with atomic_write(path, "wb") as file:
        file.write(save(plain, metadata={"about": text}))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `write_tensors` wrote. Raises StoreError for a file that is missing or damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            about: dict[str, Any] = json.loads((file.metadata() or {})["about"])
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (OSError, SafetensorError, KeyError, ValueError) as problem:
        raise StoreError(
            f"{path} cannot be read: {problem}", fix="make it anew with --compute-state"
        ) from problem
    return found, about


def zeros_like(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """fp32 zeros of the same shapes."""
    return {name: torch.zeros_like(tensor, dtype=torch.float32) for name, tensor in tensors.items()}
