"""How many test texts stand in the training rows, word for word or nearly.

Splitting keeps equal texts together, so what is left are texts that differ in case, signs and white space,
and texts that share most of their runs of tokens. Such test texts measure memory, not what was learned.

Word for word: equal letters and digits, whatever stands between them. Nearly: one training text holds at
least SHARE of the text's different runs of RUN tokens. Runs with an unknown token say nothing, nor do those
that stand in more than COMMON test texts; a text with fewer than LEAST runs is compared word for word only.

Legend: N tokens of all texts of one part, S runs, M texts of the test split.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tutelage.data.table import MappedTable

RUN = 3
SHARE = 0.7
LEAST = 6
COMMON = 100
SHOWN = 5
_TOP = np.uint64(40)
_MIX = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Leaks:
    """Test texts that stand in training rows."""

    texts: int = 0
    """Test texts that were compared: all."""
    same: int = 0
    """Of these, word for word."""
    near: int = 0
    """Of these, nearly; not counted in `same`."""
    examples: list[str] = field(default_factory=list)
    """`source row 5 = source row 18` of the first ones: row numbers in the files."""


def find_leaks(table: MappedTable, special: set[int], unknown: int | None) -> Leaks:
    """Compare the test rows of a file of tokens with its train rows.

    Args:
        table: rows with `split`, `text` and `input_ids`.
        special: ids of special tokens, which are no part of a text.
        unknown: the id that stands for what the tokenizer does not know, if it has one.
    """
    test = _rows(table, "test")
    found = np.full(len(test), -1, np.int64)
    same = _word_for_word(table, test, found)
    _by_runs(table, test, found, special, unknown)
    hit = np.flatnonzero(found >= 0)
    pairs = [f"{_place(table, test[i])} = {_place(table, found[i])}" for i in hit[:SHOWN].tolist()]
    return Leaks(len(test), same, len(hit) - same, pairs)


def _rows(table: MappedTable, split: str) -> NDArray[np.int64]:
    names = table.names("split")
    return np.flatnonzero(table.numbers("split") == names.index(split)) if names else np.empty(0, np.int64)


def _place(table: MappedTable, row: Any) -> str:
    at = np.array([int(row)])
    return f"{table.values('source', at)[0]} row {table.values('row', at)[0]}"


def _parts(table: MappedTable, rows: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], Any]]:
    """Row numbers and the record batch that holds them, for each batch that holds some of the rows."""
    for index, places, local in table.located(rows):
        order = np.argsort(local, kind="stable")
        yield rows[places[order]], table.batches[index].take(pa.array(local[order]))


def _folded(texts: Any) -> Any:
    letters = pc.replace_substring_regex(pc.utf8_lower(texts), r"[^\p{L}\p{N}]+", " ")
    return pc.utf8_trim_whitespace(letters)


def _word_for_word(table: MappedTable, test: NDArray[np.int64], found: NDArray[np.int64]) -> int:
    """Write the train row of each test text that stands there; how many there are."""
    if not len(test):
        return 0
    where: dict[str, list[int]] = {}
    for rows, part in _parts(table, test):
        places = np.searchsorted(test, rows).tolist()
        for place, text in zip(places, _folded(part.column("text")).to_pylist(), strict=True):
            if text:
                where.setdefault(text, []).append(place)
    wanted = pa.array(list(where), pa.string())
    for rows, part in _parts(table, _rows(table, "train")):
        folded = _folded(part.column("text"))
        hits = np.flatnonzero(pc.is_in(folded, value_set=wanted).to_numpy(zero_copy_only=False))
        for hit in hits.tolist():
            found[where[folded[hit].as_py()]] = rows[hit]
    return int((found >= 0).sum())


def _by_runs(
    table: MappedTable,
    test: NDArray[np.int64],
    found: NDArray[np.int64],
    special: set[int],
    unknown: int | None,
) -> None:
    """Write the train row of each test text that shares most of its runs with it."""
    hashes, owners = _test_runs(table, test, special, unknown)
    sizes = np.bincount(owners, minlength=len(test))
    best = np.zeros(len(test))
    # Nearly all runs of training rows stand in no test text: a table of leading bits says so at once.
    seen = np.zeros(1 << 24, bool)
    seen[hashes >> _TOP] = True
    for rows, part in _parts(table, _rows(table, "train")) if len(hashes) else ():
        runs, local = _runs(part, special, unknown)
        maybe = seen[runs >> _TOP]
        runs, local = _different(runs[maybe], local[maybe])
        left = np.searchsorted(hashes, runs)
        times = np.searchsorted(hashes, runs, side="right") - left
        starts = np.repeat(left - np.cumsum(times) + times, times)
        texts = owners[starts + np.arange(len(starts))]
        pairs, shared = np.unique(np.repeat(local, times) * len(test) + texts, return_counts=True)
        texts, share = pairs % len(test), shared / sizes[pairs % len(test)]
        near = (share >= SHARE) & (sizes[texts] >= LEAST) & (share > best[texts])
        for pair, text, value in zip(pairs[near], texts[near], share[near], strict=True):
            if value > best[text]:
                best[text] = value
                found[text] = found[text] if found[text] >= 0 else rows[pair // len(test)]


def _test_runs(
    table: MappedTable, test: NDArray[np.int64], special: set[int], unknown: int | None
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Sorted runs uint64[S] and the test text that each stands in, int64[S]: place in `test`."""
    hashes, owners = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for rows, part in _parts(table, test):
        runs, local = _different(*_runs(part, special, unknown))
        hashes.append(runs)
        owners.append(np.searchsorted(test, rows)[local])
    every, texts = np.concatenate(hashes), np.concatenate(owners)
    order = np.argsort(every, kind="stable")
    every, texts = every[order], texts[order]
    rare = np.searchsorted(every, every, side="right") - np.searchsorted(every, every) <= COMMON
    return every[rare], texts[rare]


def _runs(part: Any, special: set[int], unknown: int | None) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """All runs of a part: hashes, and the row of each in it."""
    column = part.column("input_ids")
    ids = column.flatten().to_numpy().astype(np.uint64)
    lengths = column.value_lengths().to_numpy()
    row = np.repeat(np.arange(len(lengths)), lengths)
    kept = ~np.isin(ids, np.array(sorted(special), np.uint64))
    ids, row = ids[kept], row[kept]
    if len(ids) < RUN:
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    last = len(ids) - RUN + 1
    whole = row[:last] == row[RUN - 1 :]
    hashes = np.zeros(last, np.uint64)
    for place in range(RUN):
        hashes = (hashes ^ ids[place : place + last]) * _MIX
        hashes ^= hashes >> np.uint64(29)
        if unknown is not None:
            whole &= ids[place : place + last] != unknown
    return hashes[whole], row[:last][whole]


def _different(
    hashes: NDArray[np.uint64], rows: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Each run of a row once."""
    order = np.lexsort((hashes, rows))
    hashes, rows = hashes[order], rows[order]
    new = np.ones(len(rows), bool)
    new[1:] = (hashes[1:] != hashes[:-1]) | (rows[1:] != rows[:-1])
    return hashes[new], rows[new]
