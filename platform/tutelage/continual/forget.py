"""The right to be forgotten: a version without some examples, and the proof that none of them is left in it.

The weights stay: what a model has learned from an example is not undone by this, and nothing here says so.
What goes is the example itself, with its label and logits, from replay and from held-out rows.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from tutelage.continual.replay import load, save, traces
from tutelage.continual.state import FOLDER, State
from tutelage.data.checks import text_digest
from tutelage.data.folders import whole_folder
from tutelage.errors import DataError


@dataclass(frozen=True)
class Forgotten:
    """What was taken out."""

    asked: tuple[str, ...]
    """Ids."""
    replayed: int
    """Rows taken from replay."""
    heldout: int
    """Held-out rows taken out."""
    traces: tuple[str, ...]
    """Files of the new state that still hold an id or text: empty is the proof."""


def text_id(text: str) -> str:
    """The id that a text has in a replay buffer, when its data gave none: the hex of its digest."""
    return text_digest(text).hex()


def forget(version: Path, target: Path, ids: Collection[str]) -> Forgotten:
    """Write the version's folder again, to `target`, without the examples of these ids.

    Raises DataError when the version's state holds none of them.
    """
    state = State.read(version)
    if state is None:
        raise DataError(f"{version} has no state, so it holds no example", fix="nothing is to be done")
    wanted = set(ids)
    with whole_folder(target, replace=True) as folder:
        shutil.copytree(version, folder, dirs_exist_ok=True)
        own = State(folder / FOLDER, state.about)
        texts: set[str] = set()
        replayed = heldout = 0
        if own.replay.exists():
            buffer = load(own.replay)
            texts |= {str(item.columns.get("text", "")) for item in buffer if item.id in wanted}
            replayed = len(buffer.delete(wanted).found)
            shutil.rmtree(own.replay)
            save(buffer, own.replay)
        for path in sorted(own.heldout.glob("*.parquet")):
            table = parquet.read_table(path)
            rows = _texts(table)
            gone = [text for text in rows if text_id(text) in wanted]
            if not gone:
                continue
            texts |= set(gone)
            heldout += len(gone)
            keep = [text_id(text) not in wanted for text in rows]
            parquet.write_table(table.filter(pa.array(keep)), path)
        if not replayed and not heldout:
            raise DataError(
                f"none of {len(wanted)} ids is in the state of this version",
                fix="an example's id is the one its data gave, or the digest of its text (--text)",
            )
        left = traces(folder / FOLDER, [*sorted(wanted), *sorted(texts)])
    return Forgotten(tuple(sorted(wanted)), replayed, heldout, tuple(left))


def holders(versions: Mapping[str, Path], ids: Collection[str]) -> list[str]:
    """Which of the versions (name -> folder) have a state that holds one of the ids."""
    return [
        name
        for name, folder in versions.items()
        if (folder / FOLDER).is_dir() and _held(folder / FOLDER, set(ids))
    ]


def _held(state: Path, ids: set[str]) -> bool:
    if (state / "replay").exists() and any(item.id in ids for item in load(state / "replay")):
        return True
    files = (state / "heldout").glob("*.parquet")
    return any(text_id(text) in ids for path in files for text in _texts(parquet.read_table(path)))


def _texts(table: pa.Table) -> list[str]:
    return [str(text) for text in table["text"].to_pylist()]
