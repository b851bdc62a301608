"""Examples for the tests of replay buffers, and ways to compare what buffers hold."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3

from tutelage.continual.replay import Buffer, Item, KindName, save

KINDS: tuple[KindName, ...] = ("reservoir", "balanced", "loss-aware")


def item(number: int, text: str | None = None, **fields: Any) -> Item:
    text = f"text of example {number}" if text is None else text
    digest = blake3(f"{number}".encode()).digest(16)
    return Item(**{"digest": digest, "slice": "books", "label": "good", "columns": {"text": text}, **fields})


def plain(count: int) -> list[Item]:
    """Items of one group, all of the same size."""
    return [item(number, "x" * 16) for number in range(count)]


def mixed(count: int, seed: int = 0) -> list[Item]:
    """Items of many sizes, unequal groups, with and without labels, losses and logits."""
    rng = np.random.default_rng(seed)
    return [
        item(
            number,
            "ä" * int(rng.integers(0, 200)),
            slice=str(rng.choice(["books", "films", "food"], p=[0.8, 0.15, 0.05])),
            label=[None, "bad", "good"][int(rng.integers(3))],
            loss=None if rng.random() < 0.2 else float(rng.exponential()),
            logits=None if rng.random() < 0.5 else rng.normal(size=3).tolist(),
            logits_by="v1" if rng.random() < 0.5 else None,
        )
        for number in range(count)
    ]


def filled(items: Iterable[Item], budget_bytes: int, kind: KindName = "reservoir", seed: int = 7) -> Buffer:
    buffer = Buffer(budget_bytes, kind, seed)
    buffer.add(items)
    return buffer


def saved(buffer: Buffer, folder: Path) -> dict[str, bytes]:
    """The files of the saved buffer."""
    save(buffer, folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def size_of(one: Item) -> int:
    return filled([one], 10**9).bytes
