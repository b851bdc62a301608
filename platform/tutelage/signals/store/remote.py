"""The tier that machines share: the same files behind an fsspec URL.

A file appears there whole. Object stores put an object in one piece; everywhere else it is uploaded under a
temporary name and moved. What is fetched is checked row by row before it gets its name here. No failure of
this tier ends a run: what could not be uploaded is tried again at the next push.
"""

from __future__ import annotations

import logging
import os
import tempfile
import uuid
from collections.abc import Container, Iterable
from contextlib import suppress
from pathlib import Path

from tutelage.errors import StoreError
from tutelage.signals.store.segment import NAME, DamagedError, Identity, Segment, sync_folder

log = logging.getLogger(__name__)

_PUTS_ARE_ATOMIC = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oss", "oci", "r2", "hf"}


class RemoteTier:
    """The files of one teacher and spec below `<url>/<teacher>/<spec>/`.

    Raises:
        StoreError: the URL cannot be reached or written.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.uploaded = 0
        self.fetched = 0
        self.failures = 0
        """Uploads, listings and fetches that failed; each is tried again."""
        self.damaged = 0
        """Files there that are not what a store wrote."""
        self._folder = folder
        self._identity = Identity.of(folder)
        self._waiting: list[Path] = []
        self._refused: set[tuple[str, int]] = set()
        self._quiet = False
        try:
            self._open()
        except Exception as error:
            raise StoreError(
                f"stream.store.url: {url} cannot be used: {type(error).__name__}: {error}",
                fix="check URL, credentials and the fsspec package of its protocol, or set it to null",
            ) from error

    def _open(self) -> None:
        from fsspec.core import url_to_fs

        self._fs, root = url_to_fs(self.url)
        protocols = {self._fs.protocol} if isinstance(self._fs.protocol, str) else set(self._fs.protocol)
        self._one_piece = bool(protocols & _PUTS_ARE_ATOMIC)
        self._place = f"{root.rstrip('/')}/{self._identity.teacher}/{self._identity.spec}"
        if not self._one_piece:
            self._fs.makedirs(self._place, exist_ok=True)
        self._fs.pipe_file(f"{self._place}/.writable", b"")

    @property
    def waiting(self) -> int:
        """Files that are not uploaded yet."""
        return len(self._waiting)

    def queue(self, paths: Iterable[Path]) -> None:
        """Upload these with the next push."""
        self._waiting += paths

    def names(self) -> dict[str, int]:
        """Name -> bytes of the files there. Raises what the file system raises."""
        self._fs.invalidate_cache(self._place)
        try:
            listing = self._fs.ls(self._place, detail=True)
        except FileNotFoundError:
            return {}
        found = {info["name"].rsplit("/", 1)[-1]: int(info.get("size") or 0) for info in listing}
        return {name: size for name, size in sorted(found.items()) if NAME.fullmatch(name)}

    def push(self) -> None:
        """Upload what waits. What fails goes on waiting."""
        for path in list(self._waiting):
            if not path.exists():  # evicted, or merged into another file
                self._waiting.remove(path)
                continue
            try:
                self._upload(path)
            except Exception as error:
                self._failed(f"{path.name} was not uploaded to {self.url}", error)
                return
            self._waiting.remove(path)
            self._quiet = False

    def pull(self, have: Container[str], room: float) -> list[Path]:
        """Fetch the files that are not in `have` while they fit in `room` bytes; gives the new paths."""
        fetched = []
        try:
            for name, size in self.names().items():
                if name in have or (name, size) in self._refused or size > room:
                    continue
                if self._fetch(name, size):
                    fetched.append(self._folder / name)
                    room -= size
        except Exception as error:
            self._failed(f"signals were not fetched from {self.url}", error)
        return fetched

    def _upload(self, path: Path) -> None:
        target = f"{self._place}/{path.name}"
        if not self._fs.exists(target):
            if self._one_piece:
                self._fs.put_file(str(path), target)
            else:
                self._fs.makedirs(self._place, exist_ok=True)
                aside = f"{self._place}/.{path.name}.{uuid.uuid4().hex[:8]}"
                try:
                    self._fs.put_file(str(path), aside)
                    self._fs.mv(aside, target)
                except BaseException:
                    with suppress(Exception):
                        self._fs.rm_file(aside)
                    raise
        self.uploaded += 1

    def _fetch(self, name: str, size: int) -> bool:
        self._folder.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(dir=self._folder, prefix=f".{name}.")
        os.close(handle)
        try:
            self._fs.get_file(f"{self._place}/{name}", aside)
            _check(Path(aside), self._identity)
            with open(aside, "rb") as file:
                os.fsync(file.fileno())
            os.replace(aside, self._folder / name)
            sync_folder(self._folder)
            self.fetched += 1
        except DamagedError as error:
            self.damaged += 1
            self._refused.add((name, size))
            log.warning("%s/%s: %s; it is not used", self.url, name, error)
            return False
        finally:
            Path(aside).unlink(missing_ok=True)
        return True

    def _failed(self, what: str, error: Exception) -> None:
        self.failures += 1
        # A network that is down says so once, not at every flush.
        (log.debug if self._quiet else log.warning)("%s: %s; it is tried again", what, error)
        self._quiet = True


def _check(path: Path, identity: Identity) -> None:
    segment = Segment(path, identity)
    bad = sum(row is None for _, row in segment.rows())
    if bad:
        raise DamagedError(f"{bad} of {len(segment)} rows have another checksum")
