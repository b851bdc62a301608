"""The memory-mapped reader of tokenised rows: selections for a training, batches for a step.

Legend: N examples, B batch, T tokens.
"""

from __future__ import annotations

import getpass
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from fsspec.core import url_to_fs
from numpy.typing import NDArray

from tutelage.config.base import unknown_key
from tutelage.config.data import Pick
from tutelage.config.task import TaskName
from tutelage.data.batch import Batch, Ints
from tutelage.data.labels import UNLABELLED
from tutelage.data.padding import padded_width
from tutelage.data.ragged import Ragged
from tutelage.data.splits import SPLITS
from tutelage.data.table import MappedTable
from tutelage.errors import DataError, StoreError
from tutelage.files import atomic_write, digest_text, is_url

__all__ = ["Batch", "Examples", "Selection"]

MAX_TOKENS_KEY = b"tutelage.max_tokens"
TASK_KEY = b"tutelage.task"
VOCABULARY_KEY = b"tutelage.vocabulary"


@dataclass(frozen=True)
class Selection:
    """What one training reads: rows int64[N] of the file, labelled bool[N]: use the row's label."""

    rows: NDArray[np.int64]
    labelled: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.rows)


class Examples:
    """Tokenised rows by number. Open it with `Examples.open`; it pickles as its path.

    Memory: 16 bytes a row; texts and tokens stay in the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._table = MappedTable(path)
        if "input_ids" not in self._table.schema.names:
            raise StoreError(f"{path} has no column input_ids", fix="make it by `tokenise`")
        about = self._table.schema.metadata or {}
        self.max_tokens = int(about.get(MAX_TOKENS_KEY, b"0")) or None
        self.task = cast(TaskName, about.get(TASK_KEY, b"sequence-classification").decode())
        self.vocabulary = int(about.get(VOCABULARY_KEY, b"0"))
        """causal-lm: tokens that the tokenizer knows."""
        self._label = self._table.numbers("label")
        self._source = self._table.numbers("source")
        self._split = self._table.numbers("split")
        self._ids = Ragged(self._table, "input_ids")
        self._lists: dict[str, Ragged] = {}
        one_each = "positions" not in self._table.schema.names
        self._positions: Ints = (
            np.ones(len(self._table), np.int32) if one_each else self._table.numbers("positions")
        )

    @classmethod
    def open(cls, path: str | Path, cache: Path | None = None) -> Examples:
        """Open a local file, or the node-local copy of an fsspec URL.

        Args:
            path: what `tokenise` returned, or its URL.
            cache: where copies of URLs are kept; a folder of this user below the temporary folder when null.

        Raises:
            StoreError: the file cannot be read.
        """
        if is_url(str(path)):
            return cls(_local_copy(str(path), cache or _default_cache()))
        return cls(Path(path).absolute())

    def __reduce__(self) -> tuple[Any, ...]:
        return Examples, (self.path,)

    def __len__(self) -> int:
        return len(self._table)

    @property
    def sources(self) -> list[str]:
        """Names of the sources, in file order."""
        return self._table.names("source")

    def select(
        self, split: str, picks: Mapping[str, Pick] | None = None, sources: Iterable[str] | None = None
    ) -> Selection:
        """Rows of one split, in file order. A row whose tokens reach no position is left out.

        Args:
            split: train, validation or test.
            picks: only these sources, of each the first `rows` rows (fewer when there are fewer), with the
                labels of its first `labels` rows.
            sources: only these sources, in full.

        Raises:
            DataError: an unknown split or source.
        """
        if split not in SPLITS:
            raise DataError(f"split: {unknown_key(split, SPLITS)}")
        names = self.sources
        wanted = list(picks if picks is not None else names)
        if sources is not None:
            only = list(sources)
            wanted = [name for name in wanted if name in only] if picks is not None else only
            self._check_sources(only)
        self._check_sources(wanted)
        here = self._split == self._table.names("split").index(split)
        rows, labelled = [np.empty(0, np.int64)], [np.empty(0, bool)]
        for code, name in enumerate(names):
            if name not in wanted:
                continue
            pick = picks[name] if picks is not None else Pick()
            own = np.flatnonzero(here & (self._source == code))[: pick.rows]
            own = own[self._positions[own] > 0]
            known = self._label[own] != UNLABELLED
            if pick.labels is not None:
                known[pick.labels :] = False
            rows.append(own.astype(np.int64))
            labelled.append(known)
        return Selection(np.concatenate(rows), np.concatenate(labelled))

    def _check_sources(self, wanted: list[str]) -> None:
        for name in wanted:
            if name not in self.sources:
                raise DataError(f"sources: {unknown_key(name, self.sources)}")

    def lengths(self, rows: NDArray[np.int64]) -> NDArray[np.int32]:
        """Tokens of each row, int32[N]."""
        return self._ids.lengths[rows]

    def positions(self, rows: NDArray[np.int64]) -> NDArray[np.int32]:
        """Positions of each row, int32[N]: 1 for sequence-classification, 2 for question-answering, else as
        many as words or next tokens are reached.
        """
        return self._positions[rows]

    def labels(self, rows: NDArray[np.int64]) -> NDArray[np.int32]:
        """Index into task.labels of each row, int32[N]; -1 without a label.

        Of other tasks than sequence-classification, 0 for a row with labels.
        """
        found: NDArray[np.int32] = self._label[rows]
        return found

    def slices(self, rows: NDArray[np.int64]) -> list[str]:
        """The domain of each row."""
        return self._table.values("slice", rows)

    def sources_of(self, rows: NDArray[np.int64]) -> list[str]:
        """The source of each row."""
        return self._table.values("source", rows)

    def texts(self, rows: NDArray[np.int64]) -> list[str]:
        """The text of each row."""
        return self._table.values("text", rows)

    def pairs(self, rows: NDArray[np.int64]) -> list[str]:
        """question-answering: the question of each row."""
        return self._table.values("pair", rows)

    def answers(self, rows: NDArray[np.int64]) -> list[list[str]]:
        """question-answering: the texts of the right answers of each row."""
        return self._table.values("answers", rows)

    def lists(self, column: str, rows: NDArray[np.int64]) -> list[Ints]:
        """The numbers that a list column holds for each row."""
        return self._list(column).take(rows)

    def _list(self, column: str) -> Ragged:
        if column not in self._lists:
            self._lists[column] = Ragged(self._table, column)
        return self._lists[column]

    def digests(self, rows: NDArray[np.int64]) -> list[bytes]:
        """16 bytes for each row over all that decides a signal: its text, and what the task asks of it."""
        return self._table.values("digest", rows)

    def batch(self, rows: NDArray[np.int64], labelled: NDArray[np.bool_], pad_id: int) -> Batch:
        """The rows as padded arrays.

        T is the longest row, rounded up to a multiple of 8 but never beyond the max_tokens of the file,
        since a model may have no position after it.

        Args:
            rows: int64[B].
            labelled: bool[B], false where the label must not be used.
            pad_id: token that fills the right side.
        """
        lengths = self._ids.lengths[rows]
        longest = int(lengths.max()) if len(lengths) else 1
        ids_BT = np.full((len(rows), padded_width(longest, self.max_tokens)), pad_id, np.int64)
        self._ids.fill(ids_BT, rows)
        mask_BT = np.arange(ids_BT.shape[1])[None, :] < lengths[:, None]
        types_BT = None
        if "token_types" in self._table.schema.names:
            types_BT = np.zeros_like(ids_BT)
            self._list("token_types").fill(types_BT, rows)
        return Batch(
            rows,
            self.digests(rows),
            ids_BT,
            mask_BT.astype(np.int64),
            np.where(labelled, self._label[rows], UNLABELLED).astype(np.int64),
            self,
            task=self.task,
            positions=self._positions[rows],
            token_types_BT=types_BT,
            vocabulary=self.vocabulary,
        )


def _default_cache() -> Path:
    folder = Path(tempfile.gettempdir()) / f"tutelage-{getpass.getuser()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise StoreError(f"{folder} belongs to another user", fix="remove it, or set TMPDIR")
    return folder


def _local_copy(url: str, cache: Path) -> Path:
    """The copy of a URL on this node, made when missing or when the original changed."""
    try:
        fs, path = url_to_fs(url)
        info = fs.info(path)
        marks = [
            str(info.get(key)) for key in ("size", "mtime", "LastModified", "updated", "ETag", "created")
        ]
        copy = cache / f"{digest_text(url, *marks)[:32]}.arrow"
        if not copy.is_file():
            with fs.open(path, "rb") as source, atomic_write(copy, "wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
    except (ImportError, ValueError, OSError) as problem:
        raise StoreError(
            f"{url} cannot be copied to this node: {problem}", fix="check the URL and its access"
        ) from problem
    return copy
