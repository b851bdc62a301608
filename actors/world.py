"""The workers of one training, as its loop sees them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


class World(Protocol):
    """The workers of one training."""

    rank: int
    size: int

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all workers, on every worker."""
        ...


@dataclass
class Solo:
    """The world of a single worker."""

    rank: int = 0
    size: int = 1

    def sum(self, values: Tensor) -> Tensor:
        """The values."""
        return values
