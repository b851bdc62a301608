"""All sources of a job as one Arrow file of checked, labelled, split rows, made once and reused.

The file holds the sources one after another, and in each first the test, then the validation, then the
train rows, ordered by the digest of their text. So "the first n rows" of a split are a fixed random
sample, whatever the order in the files was. Memory: 16 bytes and a few numbers a row, plus one batch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
from numpy.typing import NDArray
from pydantic import TypeAdapter

from tutelage.config import JobConfig
from tutelage.config.data import Source
from tutelage.config.task import Task
from tutelage.data.canonical import (
    BadRows,
    GoodRows,
    bad_rows_error,
    check_rows,
    no_label_error,
    no_rows_error,
)
from tutelage.data.checks import EXTRA_FIELDS, check_for
from tutelage.data.folders import whole_folder
from tutelage.data.labels import UNLABELLED, LabelMap
from tutelage.data.row_set import RowSet, load_rows
from tutelage.data.sources import OpenSource, open_source
from tutelage.data.splits import SPLITS, SplitPlan, SplitResult, assign, text_groups
from tutelage.data.table import MappedTable
from tutelage.errors import DataError
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
"""digest: blake3 of the text. label: index into task.labels or -1. row: number in its file, from 1.

Other tasks than sequence-classification have the columns of `EXTRA_FIELDS` too. Their digest is of the
text that decides the split: the words, the context, the prompt.
"""
TASK_SECTION_KEY = b"tutelage.task_section"

FORMAT = "rows-3"
"""Raised when the same configuration and files would give another file."""
_CHECKED = ("digest", "text", "label", "row")
CHUNK_ROWS = 4096
"""Rows of one record batch in the file."""
GATHER_BYTES = 64 << 20
"""How much text is put into order in memory at a time."""


def read_rows(job: JobConfig, home: Path, stage: Stage | None = None) -> RowSet:
    """Read, check and split all sources; a second call with the same files reads nothing.

    Raises:
        DataError: missing files or columns, bad rows (`on_bad_row: fail`), no rows, impossible splits.
        StoreError: a remote place that does not answer.
    """
    sources = job.data.sources
    opened = [open_source(name, source, home, job.task, stage) for name, source in sources.items()]
    fingerprint = _fingerprint(job, opened)
    target = home / "rows" / fingerprint
    if not (target / "rows.json").is_file():
        with whole_folder(target) as folder:
            _write(job, opened, folder, fingerprint, stage)
    return load_rows(target)


def _fingerprint(job: JobConfig, opened: list[OpenSource]) -> str:
    parts = [FORMAT, json.dumps(job.task.labels), job.data.on_bad_row]
    if job.task.type != "sequence-classification":
        parts.append(job.task.model_dump_json())
    for source in opened:
        parts += source.identity(job.data.sources[source.name])
    return digest_text(*parts)[:32]


def rows_schema(task: Task) -> pa.Schema:
    """The columns of a task's rows. All but sequence-classification carry the task's section with them."""
    if task.type == "sequence-classification":
        return ROWS_SCHEMA
    schema = pa.schema([*_FIELDS, *EXTRA_FIELDS[task.type]])
    return schema.with_metadata({TASK_SECTION_KEY: task.model_dump_json()})


def task_of(schema: pa.Schema) -> Task | None:
    """The task section that rows were made for; None means sequence-classification."""
    section = (schema.metadata or {}).get(TASK_SECTION_KEY)
    adapter: TypeAdapter[Task] = TypeAdapter(Task)
    return None if section is None else adapter.validate_json(section)


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
    groups = text_groups([source.digests for source in checked])
    results = assign(groups, plans)
    rows = RowSet(
        folder / "rows.arrow",
        fingerprint,
        counts={c.name: _count(r) for c, r in zip(checked, results, strict=True)},
        bad={c.name: dict(c.bad.counts) for c in checked},
        labelled={},
        overlaps={c.name: r.overlaps for c, r in zip(checked, results, strict=True)},
        remarks={c.name: dict(c.bad.remarks) for c in checked if c.bad.remarks},
        places={c.name: c.bad.places() for c in checked},
        hints={c.name: c.bad.hint for c in checked if c.bad.hint and c.bad.counts},
        repeats={c.name: len(g) - len(np.unique(g)) for c, g in zip(checked, groups, strict=True)},
    )
    names = pa.array(list(sources), pa.string())
    slice_of = [source.slice or name for name, source in sources.items()]
    slices = list(dict.fromkeys(slice_of))
    labels: list[NDArray[np.int32]] = []
    classes = job.task.labels if job.task.type == "sequence-classification" else ["labelled"]
    schema = rows_schema(job.task)
    with pa.OSFile(str(rows.path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for code, (source, result) in enumerate(zip(checked, results, strict=True)):
            table = MappedTable(source.path)
            labels.append(table.numbers("label"))
            rows.labelled[source.name] = int((labels[-1][result.order] != UNLABELLED).sum())
            rows.classes[source.name] = _classes(labels[-1], result, classes)
            for part, codes in _ordered(table, result):
                domain = (slices.index(slice_of[code]), pa.array(slices))
                writer.write_batch(_with_names(schema, part, codes, (code, names), domain))
            source.path.unlink()
    if job.task.type == "sequence-classification":
        rows = replace(rows, two_labels=_two_labels(groups, labels))
    saved = {key: value for key, value in asdict(rows).items() if key != "path"}
    (folder / "rows.json").write_text(json.dumps(saved, indent=1) + "\n")


def _classes(labels: NDArray[np.int32], result: SplitResult, names: list[str]) -> dict[str, dict[str, int]]:
    """Split -> label -> rows of one source; "" counts those without a label."""
    found = {}
    for code, split in enumerate(SPLITS):
        counts = np.bincount(labels[result.codes == code] + 1, minlength=len(names) + 1).tolist()
        found[split] = dict(zip(["", *names], counts, strict=True))
    return found


def _two_labels(groups: list[NDArray[np.int64]], labels: list[NDArray[np.int32]]) -> int:
    """Texts that stand in several rows, and not always with the same label."""
    known = [np.stack([g, k])[:, k != UNLABELLED] for g, k in zip(groups, labels, strict=True)]
    pairs = np.unique(np.concatenate(known, axis=1), axis=1)
    return int((np.unique(pairs[0], return_counts=True)[1] > 1).sum())


def _check_source(
    job: JobConfig, source: OpenSource, path: Path, stage: Stage | None, index: int
) -> _Checked:
    """First pass: stream the source, keep good rows in a scratch file.

    Raises:
        DataError: bad rows with `on_bad_row: fail`, no good row at all, or a label column without a label.
    """
    labels = list(job.task.labels)
    section = job.data.sources[source.name]
    check = check_for(job.task, LabelMap(source.name, labels, dict(section.labels)), section.label)
    if section.label is not None and section.label not in labels:
        raise DataError(
            f"data.sources.{source.name}.label: '{section.label}' is not one of task.labels: "
            f"{', '.join(labels)}",
            fix=f"add it to task.labels, or set data.sources.{source.name}.label to one of them",
        )
    schema = _scratch_schema(job.task)
    bad = BadRows()
    digests: list[bytes] = []
    labelled = rows = 0
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for good in check_rows(source.read(), check, bad):
            writer.write_batch(_scratch_batch(good, schema))
            digests.append(b"".join(good.digests))
            rows += len(good.rows)
            labelled += sum(1 for label in good.labels if label != UNLABELLED)
            if stage:
                stage.update(index, len(job.data.sources), source=source.name, rows=rows)
    if bad.counts and job.data.on_bad_row == "fail":
        raise bad_rows_error(source.name, bad, labels)
    if not rows:
        raise no_rows_error(source.name, bad)
    gold = section.columns.gold(job.task.type)
    if gold is not None and not labelled:
        raise no_label_error(source.name, gold, getattr(section.columns, gold), rows)
    halves = np.frombuffer(b"".join(digests), dtype=">u8").reshape(-1, 2).astype(np.uint64)
    if stage:
        stage.update(index + 1, len(job.data.sources), source=source.name, rows=rows)
    return _Checked(source.name, path, halves, bad)


def _scratch_schema(task: Task) -> pa.Schema:
    return pa.schema([rows_schema(task).field(name) for name in _CHECKED] + EXTRA_FIELDS[task.type])


def _scratch_batch(good: GoodRows, schema: pa.Schema) -> pa.RecordBatch:
    columns: list[Any] = [good.digests, good.texts, good.labels, good.rows]
    columns += [[row[name] for row in good.extra] for name in schema.names[len(columns) :]]
    arrays: list[Any] = [pa.array(values, kind.type) for values, kind in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


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
    schema: pa.Schema,
    part: pa.Table,
    codes: NDArray[np.int8],
    source: tuple[int, Any],
    domain: tuple[int, Any],
) -> pa.RecordBatch:
    splits: Any = pa.array(codes.astype(np.int32))
    made = {
        "source": _repeated(source, part.num_rows),
        "slice": _repeated(domain, part.num_rows),
        "split": pa.DictionaryArray.from_arrays(splits, pa.array(SPLITS, pa.string())),
    }
    columns = [made[name] if name in made else part.column(name).combine_chunks() for name in schema.names]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


__all__ = ["ROWS_SCHEMA", "RowSet", "read_rows", "rows_schema", "task_of"]
