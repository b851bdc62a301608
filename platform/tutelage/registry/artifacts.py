"""Files by their content: each is stored once, under its blake3, on this machine or behind an fsspec URL."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tutelage.data.folders import whole_folder
from tutelage.errors import StoreError
from tutelage.files import digest_file, filesystem, is_url


@dataclass(frozen=True)
class Entry:
    """One file of a manifest."""

    digest: str
    """blake3, 64 hex digits."""
    size: int
    """Bytes."""


Manifest = dict[str, Entry]
"""Relative path with `/` -> what stands there."""


@dataclass(frozen=True)
class StoredObject:
    """One stored file, as a listing shows it."""

    digest: str
    size: int
    age_s: float
    """Since it was written or asked for again; 0 where the store cannot tell."""


class ArtifactStore:
    """Objects at `objects/aa/rest-of-the-digest` below `root`, a path or an fsspec URL.

    On this machine an object is written aside, synced and renamed; elsewhere it is uploaded in one piece.
    Every object is checked against its digest when it is read.
    """

    def __init__(self, root: str | Path, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._local = not is_url(str(root)) or str(root).startswith("file://")
        with self._explained(str(root)):
            self._fs, path = filesystem(str(root))
        self.root = str(root)
        self._objects = f"{path.rstrip('/')}/objects"

    def put_folder(self, folder: Path) -> Manifest:
        """Store every file below `folder`; files that are stored already are not written again.

        Raises:
            StoreError: no files there, a file that changed meanwhile, or a store that cannot be written.
        """
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        if not files:
            raise StoreError(
                f"{folder} holds no files to store", fix="name the folder of an exported student"
            )
        with self._explained(self.root):
            return {path.relative_to(folder).as_posix(): self._put(path) for path in files}

    def materialise(self, manifest: Mapping[str, Entry], target: Path) -> Path:
        """Make `target` hold exactly the files of the manifest; it appears when it is whole and right.

        A `target` that is right already is left as it is. Files are hard links to read-only objects where
        both lie on one disk, else copies.

        Raises:
            StoreError: an object is missing or damaged.
        """
        if not folder_problems(manifest, target):
            return target
        with self._explained(self.root), whole_folder(target, replace=target.exists()) as folder:
            for name, entry in manifest.items():
                path = folder / safe(name)
                path.parent.mkdir(parents=True, exist_ok=True)
                self._fetch(entry, path)
        return target

    def problems(self, manifest: Mapping[str, Entry]) -> list[str]:
        """One sentence for each file whose object is missing or damaged."""
        found = []
        for name, entry in manifest.items():
            with tempfile.TemporaryDirectory() as scratch:
                try:
                    self._fetch(entry, Path(scratch) / "object")
                except StoreError as problem:
                    found.append(f"{name}: {problem.problem}")
        return found

    def missing(self, manifest: Mapping[str, Entry]) -> list[str]:
        """Names of the files whose object is not there in its full size."""
        with self._explained(self.root):
            return [name for name, entry in manifest.items() if not self._has(entry)]

    def objects(self) -> Iterator[StoredObject]:
        """Every stored object, and what an interrupted writer left (its digest is empty)."""
        with self._explained(self.root):
            listing = self._fs.find(self._objects, detail=True) if self._fs.exists(self._objects) else {}
        for path, info in listing.items():
            yield StoredObject(_digest_of(path), int(info.get("size") or 0), self._age(info))

    def remove(self, digests: Iterable[str], *, leftovers_older_s: float | None = None) -> None:
        """Remove objects by digest, and with `leftovers_older_s` unfinished files of at least that age."""
        with self._explained(self.root):
            for digest in digests:
                self._fs.rm_file(self._path(digest))
            if leftovers_older_s is None or not self._fs.exists(self._objects):
                return
            for path, info in self._fs.find(self._objects, detail=True).items():
                if not _digest_of(path) and self._age(info) >= leftovers_older_s:
                    self._fs.rm_file(path)

    def _path(self, digest: str) -> str:
        return f"{self._objects}/{digest[:2]}/{digest[2:]}"

    def _has(self, entry: Entry) -> bool:
        try:
            return bool(self._fs.info(self._path(entry.digest))["size"] == entry.size)
        except FileNotFoundError:
            return False

    def _put(self, path: Path) -> Entry:
        entry = Entry(digest_file(path), path.stat().st_size)
        if self._local:
            self._put_local(path, entry)
        elif not self._has(entry):
            self._put_remote(path, entry)
        return entry

    def _put_remote(self, path: Path, entry: Entry) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            copy = Path(scratch) / "object"
            shutil.copyfile(path, copy)
            _unchanged(path, copy, entry)
            self._fs.makedirs(f"{self._objects}/{entry.digest[:2]}", exist_ok=True)
            self._fs.put_file(str(copy), self._path(entry.digest))

    def _put_local(self, path: Path, entry: Entry) -> None:
        target = Path(self._path(entry.digest))
        with suppress(FileNotFoundError):
            if digest_file(target) == entry.digest:
                os.utime(target)  # young again: a collection leaves it alone
                return
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".writing-")
        copy = Path(name)
        try:
            with os.fdopen(handle, "wb") as file, path.open("rb") as source:
                shutil.copyfileobj(source, file, 1 << 20)
                file.flush()
                os.fsync(file.fileno())
            _unchanged(path, copy, entry)
            copy.chmod(stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH)
            os.replace(copy, target)
        finally:
            copy.unlink(missing_ok=True)

    def _fetch(self, entry: Entry, path: Path) -> None:
        source = self._path(entry.digest)
        try:
            if self._local:
                _link_or_copy(Path(source), path)
            else:
                self._fs.get_file(source, str(path))
        except FileNotFoundError as problem:
            raise StoreError(
                f"object {entry.digest[:12]} is missing in {self.root}",
                fix="restore it from a copy of the store, or add the same files again",
            ) from problem
        if path.stat().st_size != entry.size or digest_file(path) != entry.digest:
            raise StoreError(
                f"object {entry.digest[:12]} in {self.root} is damaged: its bytes have another digest",
                fix="restore it from a copy of the store, or add the same files again",
            )

    def _age(self, info: Mapping[str, Any]) -> float:
        known = (info.get(key) for key in ("mtime", "LastModified", "created"))
        when = next((one for one in known if one is not None), None)
        if when is None:
            return 0.0
        return max(0.0, self._clock() - float(when.timestamp() if hasattr(when, "timestamp") else when))

    @contextmanager
    def _explained(self, place: str) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, ImportError) as problem:
            raise StoreError(
                f"the artifact store {place} cannot be used: {problem}",
                fix="check TUTELAGE_ARTIFACTS, the access rights, and the fsspec package of the protocol",
            ) from problem


def folder_problems(manifest: Mapping[str, Entry], folder: Path) -> list[str]:
    """One sentence for each file that is missing, damaged, or not of the manifest."""
    if not folder.is_dir():
        return [f"{folder} is not there"]
    found = []
    for name, entry in manifest.items():
        path = folder / safe(name)
        if not path.is_file():
            found.append(f"{name} is missing")
        elif path.stat().st_size != entry.size or digest_file(path) != entry.digest:
            found.append(f"{name} has other bytes")
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return found + [f"{name} does not belong there" for name in sorted(names - set(manifest))]


def safe(name: str) -> PurePosixPath:
    """The name as a path that stays inside its folder. Raises StoreError for any other."""
    path = PurePosixPath(name)
    if path.is_absolute() or not path.parts or ".." in path.parts or "\\" in name or "\0" in name:
        raise StoreError(f"manifest: '{name}' is not a path inside the version", fix="make the version again")
    return path


def _digest_of(path: str) -> str:
    parts = PurePosixPath(path).parts
    digest = "".join(parts[-2:])
    return digest if len(digest) == 64 and not parts[-1].startswith(".") else ""


def _link_or_copy(source: Path, path: Path) -> None:
    try:
        os.link(source, path)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, path)


def _unchanged(path: Path, copy: Path, entry: Entry) -> None:
    if digest_file(copy) != entry.digest:
        raise StoreError(f"{path} changed while it was stored", fix="store it when nothing writes to it")
