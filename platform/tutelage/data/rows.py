"""All sources of a job as one Arrow file of checked, labelled, split rows, made once and reused.

The file holds the sources one after another, and in each first the test, then the validation, then the
train rows, ordered by the digest of their text. So "the first n rows" of a split are a fixed random
sample, whatever the order in the files was. Memory: 16 bytes and a few numbers a row, plus one batch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
from numpy.typing import NDArray

from tutelage.config import JobConfig
from tutelage.config.data import Source
from tutelage.data.canonical import (
    BadRows,
    GoodRows,
    bad_rows_error,
    check_rows,
    no_label_error,
    no_rows_error,
)
from tutelage.data.folders import whole_folder
from tutelage.data.labels import UNLABELLED, LabelMap
from tutelage.data.sources import OpenSource, open_source
from tutelage.data.splits import SPLITS, SplitPlan, SplitResult, assign, text_groups
from tutelage.data.table import MappedTable
from tutelage.errors import StoreError
from tutelage.files import digest_text
from tutelage.progress import Stage

_NAME: Any = pa.dictionary(pa.int32(), pa.string())
_FIELDS: Any = [
    ("digest", pa.binary(16)),
    ("text", pa.string()),
    ("source", _NAME),
    ("slice", _NAME),
    ("split", _NAME),
    ("label", pa.int32()),
    ("row", pa.int64()),
]
ROWS_SCHEMA = pa.schema(_FIELDS)
"""digest: blake3 of the text. label: index into task.labels or -1. row: number in its file, from 1."""

FORMAT = "rows-1"
"""Raised when the same configuration and files would give another file."""
CHUNK_ROWS = 4096
"""Rows of one record batch in the file."""
GATHER_BYTES = 64 << 20
"""How much text is put into order in memory at a time."""
_SCRATCH = pa.schema([ROWS_SCHEMA.field(name) for name in ("digest", "text", "label", "row")])


@dataclass(frozen=True)
class RowSet:
    """The rows of a job and what was counted while they were read."""

    path: Path
    fingerprint: str
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    """source -> split -> rows."""
    bad: dict[str, dict[str, int]] = field(default_factory=dict)
    """source -> reason -> rows left out (`data.on_bad_row: skip`)."""
    labelled: dict[str, int] = field(default_factory=dict)
    """source -> rows with a label, over all splits."""
    overlaps: dict[str, int] = field(default_factory=dict)
    """source -> rows left out because another source holds the same text out for validation or test."""


def read_rows(job: JobConfig, home: Path, stage: Stage | None = None) -> RowSet:
    """Read, check and split all sources; a second call with the same files reads nothing.

    Raises:
        DataError: missing files or columns, bad rows (`on_bad_row: fail`), no rows, impossible splits.
        StoreError: a remote place that does not answer.
    """
    labels = list(job.task.labels)
    sources = job.data.sources
    opened = [open_source(name, source, home, labels, stage) for name, source in sources.items()]
    fingerprint = _fingerprint(job, opened)
    target = home / "rows" / fingerprint
    if not (target / "rows.json").is_file():
        with whole_folder(target) as folder:
            _write(job, opened, folder, fingerprint, stage)
    return _load(target)


def _fingerprint(job: JobConfig, opened: list[OpenSource]) -> str:
    parts = [FORMAT, json.dumps(job.task.labels), job.data.on_bad_row]
    for source in opened:
        parts += [source.name, job.data.sources[source.name].model_dump_json(), source.stamp]
    return digest_text(*parts)[:32]


def _load(folder: Path) -> RowSet:
    try:
        saved = json.loads((folder / "rows.json").read_text())
        return RowSet(path=folder / "rows.arrow", **saved)
    except (OSError, ValueError, TypeError) as problem:
        raise StoreError(
            f"{folder} is damaged: {problem}", fix=f"remove {folder} and repeat the command"
        ) from problem


@dataclass
class _Checked:
    """One source after the first pass: good rows on disk, in file order; digests uint64[N, 2] in memory."""

    name: str
    path: Path
    digests: NDArray[np.uint64]
    bad: BadRows


def _write(
    job: JobConfig, opened: list[OpenSource], folder: Path, fingerprint: str, stage: Stage | None
) -> None:
    checked = [_check_source(job, s, folder / f"{i}.scratch", stage, i) for i, s in enumerate(opened)]
    sources = job.data.sources
    plans = [_plan(source.name, sources[source.name]) for source in checked]
    results = assign(text_groups([source.digests for source in checked]), plans)
    rows = RowSet(
        folder / "rows.arrow",
        fingerprint,
        counts={c.name: _count(r) for c, r in zip(checked, results, strict=True)},
        bad={c.name: dict(c.bad.counts) for c in checked},
        labelled={},
        overlaps={c.name: r.overlaps for c, r in zip(checked, results, strict=True)},
    )
    names = pa.array(list(sources), pa.string())
    slice_of = [source.slice or name for name, source in sources.items()]
    slices = list(dict.fromkeys(slice_of))
    with pa.OSFile(str(rows.path), "wb") as sink, pa.ipc.new_file(sink, ROWS_SCHEMA) as writer:
        for code, (source, result) in enumerate(zip(checked, results, strict=True)):
            table = MappedTable(source.path)
            rows.labelled[source.name] = int((table.numbers("label")[result.order] != UNLABELLED).sum())
            for part, codes in _ordered(table, result):
                writer.write_batch(
                    _with_names(part, codes, (code, names), (slices.index(slice_of[code]), pa.array(slices)))
                )
            source.path.unlink()
    if stage:
        for name, reasons in rows.bad.items():
            if reasons:
                stage.note(f"{name}: left out {', '.join(f'{n} {reason}' for reason, n in reasons.items())}")
        for name, count in rows.overlaps.items():
            if count:
                stage.note(f"{name}: left out {count} rows whose text another source holds out")
    saved = {key: value for key, value in asdict(rows).items() if key != "path"}
    (folder / "rows.json").write_text(json.dumps(saved, indent=1) + "\n")


def _check_source(
    job: JobConfig, source: OpenSource, path: Path, stage: Stage | None, index: int
) -> _Checked:
    """First pass: stream the source, keep good rows in a scratch file.

    Raises:
        DataError: bad rows with `on_bad_row: fail`, no good row at all, or a label column without a label.
    """
    labels = list(job.task.labels)
    section = job.data.sources[source.name]
    label_of = LabelMap(source.name, labels, dict(section.labels))
    bad = BadRows()
    digests: list[bytes] = []
    labelled = rows = 0
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, _SCRATCH) as writer:
        for good in check_rows(source.read(), label_of, bad):
            writer.write_batch(_scratch_batch(good))
            digests.append(b"".join(good.digests))
            rows += len(good.rows)
            labelled += sum(1 for label in good.labels if label != UNLABELLED)
            if stage:
                stage.update(index, len(job.data.sources), source=source.name, rows=rows)
    if bad.counts and job.data.on_bad_row == "fail":
        raise bad_rows_error(source.name, bad, labels)
    if not rows:
        raise no_rows_error(source.name, bad)
    if section.columns.label is not None and not labelled:
        raise no_label_error(source.name, section.columns.label, rows)
    halves = np.frombuffer(b"".join(digests), dtype=">u8").reshape(-1, 2).astype(np.uint64)
    if stage:
        stage.update(index + 1, len(job.data.sources), source=source.name, rows=rows)
    return _Checked(source.name, path, halves, bad)


def _scratch_batch(good: GoodRows) -> pa.RecordBatch:
    columns: list[Any] = [
        pa.array(good.digests, pa.binary(16)),
        pa.array(good.texts, pa.string()),
        pa.array(good.labels, pa.int32()),
        pa.array(good.rows, pa.int64()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=_SCRATCH)


def _plan(name: str, source: Source) -> SplitPlan:
    splits = source.splits
    return SplitPlan(name, splits.test, splits.validation, splits.train, source.split)


def _count(result: SplitResult) -> dict[str, int]:
    return {split: int((result.codes == code).sum()) for code, split in enumerate(SPLITS)}


def _ordered(table: MappedTable, result: SplitResult) -> Iterator[tuple[pa.Table, NDArray[np.int8]]]:
    """The rows in the order of the file, gathered many at a time because each gather visits all batches."""
    width = max(1, table.path.stat().st_size // max(1, len(table)))
    gathered = CHUNK_ROWS * max(1, GATHER_BYTES // (width * CHUNK_ROWS))
    for start in range(0, len(result.order), gathered):
        rows = result.order[start : start + gathered]
        part = table.take(rows)
        for i in range(0, len(rows), CHUNK_ROWS):
            yield part.slice(i, CHUNK_ROWS), result.codes[rows[i : i + CHUNK_ROWS]]


def _repeated(name: tuple[int, Any], rows: int) -> Any:
    """The same entry of a dictionary in every row."""
    codes: Any = pa.array(np.full(rows, name[0], np.int32))
    return pa.DictionaryArray.from_arrays(codes, name[1])


def _with_names(
    part: pa.Table, codes: NDArray[np.int8], source: tuple[int, Any], domain: tuple[int, Any]
) -> pa.RecordBatch:
    splits: Any = pa.array(codes.astype(np.int32))
    columns = [
        part.column("digest").combine_chunks(),
        part.column("text").combine_chunks(),
        _repeated(source, part.num_rows),
        _repeated(domain, part.num_rows),
        pa.DictionaryArray.from_arrays(splits, pa.array(SPLITS, pa.string())),
        part.column("label").combine_chunks(),
        part.column("row").combine_chunks(),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=ROWS_SCHEMA)
