"""One configured source, opened: its files or data set, what identifies its content, and its raw rows."""

from __future__ import annotations

import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from tutelage.config.data import CatalogSource, FileSource, Source
from tutelage.config.task import Task
from tutelage.data import catalog
from tutelage.data.arrow_rows import read_arrow, read_parquet
from tutelage.data.delimited import read_csv, read_tsv
from tutelage.data.hub import open_hub
from tutelage.data.labels import spellings
from tutelage.data.raw import Dialect, RawRows, Reader, Wanted
from tutelage.data.text_lines import read_jsonl, read_text
from tutelage.errors import DataError, StoreError
from tutelage.files import digest_file, digest_text, filesystem, is_url
from tutelage.progress import Stage

ENDINGS = {
    ".parquet": "parquet", ".pq": "parquet", ".arrow": "arrow", ".feather": "arrow", ".ipc": "arrow",
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv", ".txt": "text",
}  # fmt: skip
CONTENT_BYTES = 1 << 30
"""Local files up to so large are known by their bytes: reading one takes about a second, once a command."""
OTHERS = {
    ".json": "set {key}.format: jsonl where each line is one object; else write it so: jq -c '.[]' FILE",
    **dict.fromkeys((".xlsx", ".xls", ".ods"), "save the sheet as CSV UTF-8"),
    **dict.fromkeys((".zip", ".tar", ".tgz", ".zst", ".7z", ".rar"), "unpack it, and name what is inside"),
}
"""Endings that people bring, and what to do with such a file."""
COMPRESSED = (".gz", ".bz2", ".xz")
READERS: dict[str, Reader] = {
    "parquet": read_parquet, "arrow": read_arrow, "jsonl": read_jsonl, "csv": read_csv, "tsv": read_tsv,
    "text": read_text,
}  # fmt: skip


@dataclass(frozen=True)
class OpenSource:
    """A source whose files were found; nothing of them is read yet."""

    name: str
    stamp: str
    """Changes when the content does: digests of it, or path, size and time of each file."""
    read: Callable[[], Iterator[RawRows]]
    by_content: bool = False
    """The stamp is of the bytes alone, wherever the files lie."""

    def identity(self, source: Source) -> list[str]:
        """All that decides the rows: the name, the section, the content. A path counts where content is not
        known."""
        section = source.model_dump_json(exclude={"path"} if self.by_content else None)
        return [self.name, section, self.stamp]


def open_source(name: str, source: Source, home: Path, task: Task, stage: Stage | None = None) -> OpenSource:
    """Find what the source names. Catalog data is fetched when its rows are first read.

    Raises:
        DataError: no such file, folder, data set or format.
        StoreError: a remote place or the hub that does not answer.
    """
    keys = source.columns.read(task.type)
    if isinstance(source, FileSource):
        opened = _open_files(name, source, keys, spellings(list(task.labels), dict(source.labels)))
    elif isinstance(source, CatalogSource):
        opened = _open_catalog(name, source, home, keys, stage)
    else:
        opened = OpenSource(name, *open_hub(name, source, keys, task.labels))
    if source.limit is None:
        return opened
    limit = source.limit
    return replace(opened, read=lambda: _at_most(opened.read(), limit))


def _at_most(batches: Iterator[RawRows], limit: int) -> Iterator[RawRows]:
    """The first `limit` rows, readable or not."""
    for batch in batches:
        if len(batch) >= limit:
            last = sorted(batch.rows + [flaw.row for flaw in batch.flaws])[:limit][-1]
            keep = sum(1 for row in batch.rows if row <= last)
            values = {key: column[:keep] for key, column in batch.values.items()}
            flaws = [flaw for flaw in batch.flaws if flaw.row <= last]
            remarks = [remark for remark in batch.remarks if remark.row <= last]
            yield RawRows(batch.file, batch.rows[:keep], values, flaws, remarks, batch.hint)
            return
        limit -= len(batch)
        yield batch


@dataclass(frozen=True)
class File:
    """One file of a source."""

    path: str
    shown: str
    format: str
    stamp: str


def _open_files(name: str, source: FileSource, keys: dict[str, str], labels: frozenset[str]) -> OpenSource:
    fs, files = list_files(name, source)
    dialect = _dialect(name, source, {file.format for file in files})

    def read() -> Iterator[RawRows]:
        for file in files:
            wanted = Wanted(name, file.shown, keys, dialect, labels)
            with opened_file(fs, file, wanted) as handle:
                yield from READERS[file.format](handle, wanted)

    contents = [content_of(fs, file) for file in files]
    known = [content for content in contents if content]
    whole = len(known) == len(files)
    return OpenSource(
        name, digest_text(*(known if whole else (f.stamp for f in files))), read, by_content=whole
    )


@contextmanager
def opened_file(fs: Any, file: File, wanted: Wanted) -> Iterator[IO[bytes]]:
    """The bytes of a file, unpacked. Raises DataError where they cannot be read."""
    try:
        with fs.open(file.path, "rb", compression="infer") as handle:
            yield handle
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as problem:
        raise wanted.unreadable(problem) from problem


def _dialect(name: str, source: FileSource, formats: set[str]) -> Dialect:
    """How the text files of a source are written. Raises DataError for keys that no file of it takes."""
    tables = {"csv", "tsv"}
    takes = {"encoding": {*tables, "jsonl", "text"}, "delimiter": tables, "quote": tables, "header": tables}
    for key, kinds in takes.items():
        if getattr(source, key) != FileSource.model_fields[key].default and not kinds & formats:
            raise DataError(
                f"data.sources.{name}.{key}: {', '.join(sorted(formats))} files have none",
                fix=f"remove data.sources.{name}.{key}, or set data.sources.{name}.format",
            )
    header = source.header if isinstance(source.header, bool) else tuple(source.header)
    return Dialect(source.encoding, source.delimiter, source.quote, header)


def list_files(name: str, source: FileSource) -> tuple[Any, list[File]]:
    """The file system and the files that a source names, in the order in which they are read.

    Raises:
        DataError: no such file, or none of a known format.
        StoreError: a place that cannot be listed.
    """
    key = f"data.sources.{name}"
    place = source.path if is_url(source.path) else str(Path(source.path).expanduser().absolute())
    try:
        fs, root = filesystem(place)
        paths, listed = _expand(fs, root)
    except (ImportError, ValueError) as problem:
        raise DataError(
            f"{key}.path '{source.path}': {problem}",
            fix="s3:// needs `pip install 'tutelage[s3]'`, gs:// needs `pip install 'tutelage[gcs]'`",
        ) from problem
    except OSError as problem:
        raise StoreError(
            f"{key}.path '{source.path}' cannot be listed: {problem}",
            fix="check its permissions, and for a URL the network and the credentials",
        ) from problem
    if not paths:
        raise DataError(
            f"{key}.path '{source.path}': no such file", fix="check the path; a glob must match something"
        )
    files = [File(p, _shown(fs, p), _format(p, source.format), _stamp(fs, p)) for p in paths]
    known = _of_a_folder(files, said=source.format != "auto") if listed else files
    unknown = [file.shown for file in (known or files) if not file.format]
    if unknown:
        raise DataError(
            f"{key}.path '{source.path}': the format of {unknown[0]} is not known from its ending",
            fix=_other_format(unknown[0], key),
        )
    return fs, known


def _other_format(file: str, key: str) -> str:
    """What to do with a file whose ending is none of ours."""
    known = f"use {', '.join(sorted(ENDINGS))} (also with .gz, .bz2, .xz), or set {key}.format"
    return OTHERS.get(Path(file).suffix.lower(), known).format(key=key)


def _of_a_folder(files: list[File], *, said: bool) -> list[File]:
    """Files of a known format; text files only where there are no others: beside rows they are notes."""
    known = [file for file in files if file.format]
    rows = [file for file in known if said or file.format != "text"]
    return rows or known


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


def content_of(fs: Any, file: File) -> str:
    """What a small local file holds and how it is read; "" for one that is large or elsewhere."""
    if not isinstance(fs, LocalFileSystem):
        return ""
    found = os.stat(file.path)
    if found.st_size > CONTENT_BYTES:
        return ""
    # Nobody can set the time of the last change of a file's own record, as its other times can be set.
    return f"{file.format} {_digest(file.path, found.st_size, found.st_ctime_ns)}"


@lru_cache(maxsize=4096)
def _digest(path: str, _size: int, _ctime_ns: int) -> str:
    """Once a process for each state of a file."""
    return digest_file(Path(path))


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
