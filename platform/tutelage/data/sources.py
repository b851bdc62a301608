"""One configured source, opened: its files or data set, what identifies its content, and its raw rows."""

from __future__ import annotations

import logging
import lzma
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
from fsspec.core import url_to_fs

from tutelage.config.data import CatalogSource, FileSource, HubSource, Source
from tutelage.config.task import Task
from tutelage.data import catalog
from tutelage.data.raw import (
    BATCH_ROWS,
    RawRows,
    Reader,
    Wanted,
    read_arrow,
    read_csv,
    read_jsonl,
    read_parquet,
    read_tsv,
)
from tutelage.errors import DataError, StoreError
from tutelage.files import digest_text, is_url
from tutelage.progress import Stage

ENDINGS = {
    ".parquet": "parquet", ".pq": "parquet", ".arrow": "arrow", ".feather": "arrow", ".ipc": "arrow",
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv",
}  # fmt: skip
CLASSES = {"label", "tags"}
"""Keys of `columns` whose values a data set may number."""
COMPRESSED = (".gz", ".bz2", ".xz")
READERS: dict[str, Reader] = {
    "parquet": read_parquet, "arrow": read_arrow, "jsonl": read_jsonl, "csv": read_csv, "tsv": read_tsv,
}  # fmt: skip


@dataclass(frozen=True)
class OpenSource:
    """A source whose files were found; nothing of them is read yet."""

    name: str
    stamp: str
    """Changes when the content does: path, size and time of each file, or a content digest."""
    read: Callable[[], Iterator[RawRows]]


def open_source(name: str, source: Source, home: Path, task: Task, stage: Stage | None = None) -> OpenSource:
    """Find what the source names. Catalog data is fetched when its rows are first read.

    Raises:
        DataError: no such file, folder, data set or format.
        StoreError: a remote place or the hub that does not answer.
    """
    keys = source.columns.read(task.type)
    if isinstance(source, FileSource):
        opened = _open_files(name, source, keys)
    elif isinstance(source, CatalogSource):
        opened = _open_catalog(name, source, home, keys, stage)
    else:
        opened = _open_hub(name, source, keys, task.labels)
    if source.limit is None:
        return opened
    limit = source.limit
    return OpenSource(name, opened.stamp, lambda: _at_most(opened.read(), limit))


def _at_most(batches: Iterator[RawRows], limit: int) -> Iterator[RawRows]:
    """The first `limit` rows, readable or not."""
    for batch in batches:
        if len(batch) >= limit:
            last = sorted(batch.rows + [flaw.row for flaw in batch.flaws])[:limit][-1]
            keep = sum(1 for row in batch.rows if row <= last)
            values = {key: column[:keep] for key, column in batch.values.items()}
            flaws = [flaw for flaw in batch.flaws if flaw.row <= last]
            yield RawRows(batch.file, batch.rows[:keep], values, flaws)
            return
        limit -= len(batch)
        yield batch


@dataclass(frozen=True)
class _File:
    path: str
    shown: str
    format: str
    stamp: str


def _open_files(name: str, source: FileSource, keys: dict[str, str]) -> OpenSource:
    fs, files = _list_files(name, source)

    def read() -> Iterator[RawRows]:
        for file in files:
            wanted = Wanted(name, file.shown, keys)
            try:
                with fs.open(file.path, "rb", compression="infer") as handle:
                    yield from READERS[file.format](handle, wanted)
            except (OSError, EOFError, lzma.LZMAError, zlib.error) as problem:
                raise wanted.unreadable(problem) from problem

    return OpenSource(name, digest_text(*(file.stamp for file in files)), read)


def _list_files(name: str, source: FileSource) -> tuple[Any, list[_File]]:
    key = f"data.sources.{name}"
    place = source.path if is_url(source.path) else str(Path(source.path).expanduser().absolute())
    try:
        fs, root = url_to_fs(place)
        paths, listed = _expand(fs, root)
    except (ImportError, ValueError) as problem:
        raise DataError(
            f"{key}.path '{source.path}': {problem}",
            fix="s3:// needs `pip install 'tutelage[s3]'`, gs:// needs `pip install 'tutelage[gcs]'`",
        ) from problem
    except OSError as problem:
        raise StoreError(f"{key}.path '{source.path}' cannot be listed: {problem}") from problem
    if not paths:
        raise DataError(
            f"{key}.path '{source.path}': no such file", fix="check the path; a glob must match something"
        )
    files = [_File(p, _shown(fs, p), _format(p, source.format), _stamp(fs, p)) for p in paths]
    known = [file for file in files if file.format] if listed else files
    unknown = [file.shown for file in (known or files) if not file.format]
    if unknown:
        raise DataError(
            f"{key}.path '{source.path}': the format of {unknown[0]} is not known from its ending",
            fix=f"use {', '.join(sorted(ENDINGS))} (also with .gz, .bz2, .xz), or set {key}.format",
        )
    return fs, known


def _expand(fs: Any, root: str) -> tuple[list[str], bool]:
    """Sorted paths, and true when they were found by listing a folder."""
    if fs.isdir(root):
        found = [str(p) for p in fs.find(root)]
        base = root.rstrip("/")
        return sorted(p for p in found if not _hidden(p.removeprefix(base))), True
    if fs.exists(root):
        return [root], False
    if any(sign in root for sign in "*?["):
        return sorted(str(p) for p in fs.glob(root) if not fs.isdir(p)), False
    return [], False


def _hidden(relative: str) -> bool:
    return any(part.startswith((".", "_")) for part in relative.split("/") if part)


def _shown(fs: Any, path: str) -> str:
    protocol = fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]
    return path if protocol in ("file", "local") else str(fs.unstrip_protocol(path))


def _format(path: str, asked: str) -> str:
    """The reader's name, or "" when the ending says nothing, or another format than the one asked for."""
    plain = path.lower()
    for ending in COMPRESSED:
        plain = plain.removesuffix(ending)
    found = ENDINGS.get(Path(plain).suffix, "")
    if asked == "auto":
        return found
    return "tsv" if asked == "csv" and found == "tsv" else asked


def _stamp(fs: Any, path: str) -> str:
    """Path, size, and whatever the place knows of the last change."""
    info = fs.info(path)
    changes = ("mtime", "LastModified", "last_modified", "updated", "ETag", "etag", "md5Hash", "created")
    changed = next((str(info[key]) for key in changes if info.get(key)), "")
    return f"{path}\n{info.get('size')}\n{changed}"


def _open_catalog(
    name: str, source: CatalogSource, home: Path, keys: dict[str, str], stage: Stage | None
) -> OpenSource:
    entry, _ = catalog.find_dataset(source.dataset)

    def read() -> Iterator[RawRows]:
        path = catalog.fetch_dataset(source.dataset, home, stage)
        wanted = Wanted(name, source.dataset, keys)
        with fsspec.filesystem("file").open(str(path), "rb") as handle:
            yield from read_parquet(handle, wanted)

    return OpenSource(name, digest_text(source.dataset, entry.sha256, entry.conversion), read)


def _open_hub(name: str, source: HubSource, keys: dict[str, str], labels: list[str]) -> OpenSource:
    key = f"data.sources.{name}"
    try:
        import datasets
    except ImportError as problem:
        raise DataError(
            f"{key}: type 'hub' needs the package `datasets`", fix="pip install 'tutelage[hub]'"
        ) from problem
    logging.getLogger("datasets").setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    try:
        data = datasets.load_dataset(
            source.dataset, source.config, split=source.part, revision=source.revision
        )
    except (ValueError, FileNotFoundError, datasets.exceptions.DatasetsError) as problem:
        raise DataError(
            f"{key}: the hub has no data set '{source.dataset}' (config {source.config}, "
            f"part '{source.part}'), or it cannot be reached: {problem}",
            fix="check the name, config and part, and that this machine reaches the hub",
        ) from problem
    except OSError as problem:
        raise StoreError(
            f"{key}: the hub does not answer for '{source.dataset}': {problem}",
            fix="check the network, or save the data set as parquet and use `path:`",
        ) from problem
    stamp = digest_text(source.dataset, str(source.config), source.part, str(data._fingerprint))
    wanted = Wanted(name, source.dataset, keys)
    return OpenSource(name, stamp, lambda: _hub_rows(data, source, wanted, labels))


def _hub_rows(data: Any, source: HubSource, wanted: Wanted, labels: list[str]) -> Iterator[RawRows]:
    """Rows of a `datasets.Dataset`; classes by their name where the data set names them."""
    wanted.check(list(data.column_names))
    names = {key: _class_names(data, source, wanted.keys[key], labels) for key in CLASSES & set(wanted.keys)}
    data = data.select_columns(wanted.columns)
    for start in range(0, len(data), BATCH_ROWS):
        part = data[start : start + BATCH_ROWS]
        values = {key: list(part[column]) for key, column in wanted.keys.items()}
        for key, known in names.items():
            if known:
                values[key] = [_named(value, known) for value in values[key]]
        rows = list(range(start + 1, start + 1 + len(next(iter(values.values())))))
        yield RawRows(wanted.file, rows, values)
    if not len(data):
        yield wanted.empty()


def _named(value: Any, names: list[str]) -> Any:
    """A class number, or a list of them, by name; -1 is how the hub writes "unlabelled"."""
    if isinstance(value, list):
        return [_named(one, names) for one in value]
    if isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    return None if value == -1 else value


def _class_names(data: Any, source: HubSource, column: str, labels: list[str]) -> list[str]:
    """The data set's class names, unless the source's `labels` map the numbers themselves."""
    feature = data.features.get(column)
    feature = getattr(feature, "feature", feature)  # of a list
    names = list(getattr(feature, "names", None) or [])
    by_number = bool(source.labels) and not set(names) & set(source.labels)
    return [] if by_number and not set(names) & set(labels) else names
