"""The remote tier: machines share files by URL; it may fail at any time without costing a row or a run."""

from __future__ import annotations

import logging
import shutil
import uuid
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tests.unit.signal_store_samples import FOLDER, digests, files, fill, logits, same
from tutelage.errors import StoreError
from tutelage.signals.store import ArrowStore, remote

pytestmark = pytest.mark.unit


@pytest.fixture(params=["memory", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"memory://{uuid.uuid4().hex}" if request.param == "memory" else f"file://{tmp_path}/shared"


def machine(tmp_path: Path, name: str, url: str, **options: Any) -> ArrowStore:
    """The store of one machine: its own folder, the common URL."""
    return ArrowStore(tmp_path / name / FOLDER, url=url, **options)


def listing(url: str) -> list[str]:
    """Names of all objects behind the URL, finished or not."""
    fs, root = fsspec.url_to_fs(url)
    return sorted(path.rsplit("/", 1)[-1] for path in fs.find(root) if not path.endswith(".writable"))


def test_another_machine_reads_what_was_flushed(tmp_path: Path, url: str) -> None:
    one, two = machine(tmp_path, "one", url), machine(tmp_path, "two", url)
    fill(one, 1, 2)
    two.refresh()
    assert same(two.get(digests([2, 1])), logits(2, 1))
    assert same(machine(tmp_path, "three", url).get(digests([1])), logits(1))
    assert [store.remote.uploaded for store in (one, two)] == [1, 0]
    assert [store.remote.fetched for store in (one, two)] == [0, 1]


def test_only_whole_files_stand_behind_the_url(tmp_path: Path, url: str) -> None:
    store = machine(tmp_path, "one", url)
    fill(store, 1)
    fill(store, 2)
    assert listing(url) == [path.name for path in files(tmp_path / "one")]


def test_nothing_is_fetched_or_uploaded_twice(tmp_path: Path, url: str) -> None:
    fill(machine(tmp_path, "one", url), 1)
    two = machine(tmp_path, "two", url)
    two.refresh()
    two.flush()
    again = machine(tmp_path, "two", url)
    again.flush()
    assert (two.remote.fetched, two.remote.uploaded) == (1, 0)
    assert (again.remote.fetched, again.remote.uploaded) == (0, 0)


def test_signals_from_before_there_was_a_url_are_uploaded(tmp_path: Path, url: str) -> None:
    fill(ArrowStore(tmp_path / "one" / FOLDER), 1)
    machine(tmp_path, "one", url).flush()
    assert same(machine(tmp_path, "two", url).get(digests([1])), logits(1))


class Broken(MemoryFileSystem):
    """A file system whose network can be taken away: `down` lists what fails."""

    protocol = "broken"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    down: ClassVar[set[str]] = set()

    def _up(self, what: str) -> None:
        if what in self.down:
            raise ConnectionError("no route to host")

    def put_file(self, lpath: str, rpath: str, **options: Any) -> None:
        if "put" in self.down:  # a part arrives, then the line breaks
            self.pipe_file(rpath, Path(lpath).read_bytes()[:100])
        self._up("put")
        super().put_file(lpath, rpath, **options)

    def ls(self, path: str, detail: bool = True, **options: Any) -> Any:
        self._up("ls")
        return super().ls(path, detail, **options)

    def get_file(self, rpath: str, lpath: str, **options: Any) -> None:
        if "get" in self.down:
            Path(lpath).write_bytes(b"ARROW1")
        self._up("get")
        super().get_file(rpath, lpath, **options)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> type[Broken]:
    fsspec.register_implementation("broken", Broken, clobber=True)
    for name, fresh in (("store", {}), ("pseudo_dirs", [""]), ("down", set())):
        monkeypatch.setattr(Broken, name, fresh)
    return Broken


def test_a_failed_upload_loses_nothing_and_is_tried_again_at_the_next_flush(
    tmp_path: Path, broken: type[Broken], caplog: pytest.LogCaptureFixture
) -> None:
    store = machine(tmp_path, "one", "broken://x")
    broken.down.add("put")
    with caplog.at_level(logging.WARNING):
        fill(store, 1)
        fill(store, 2)
        store.flush()
    assert (store.remote.failures, store.remote.uploaded, store.remote.waiting) == (3, 0, 2)
    assert len(caplog.records) == 1
    assert listing("broken://x") == []  # no part of a file under any name
    assert same(ArrowStore(tmp_path / "one" / FOLDER).get(digests([1, 2])), logits(1, 2))
    broken.down.clear()
    store.flush()
    assert (store.remote.uploaded, store.remote.waiting) == (2, 0)
    assert same(machine(tmp_path, "two", "broken://x").get(digests([1, 2])), logits(1, 2))


def test_an_object_store_gets_the_file_in_one_piece_under_its_own_name(
    tmp_path: Path, broken: type[Broken], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its puts are atomic, and a move there would be a copy."""
    monkeypatch.setattr(remote, "_PUTS_ARE_ATOMIC", {"broken"})
    monkeypatch.setattr(Broken, "mv", None)
    store = machine(tmp_path, "one", "broken://x")
    fill(store, 1)
    assert listing("broken://x") == [path.name for path in files(tmp_path / "one")]
    assert (store.remote.uploaded, store.remote.failures) == (1, 0)


def test_a_run_that_ended_before_its_upload_is_made_good_by_the_next(
    tmp_path: Path, broken: type[Broken]
) -> None:
    broken.down.add("put")
    fill(machine(tmp_path, "one", "broken://x"), 1)
    broken.down.clear()
    machine(tmp_path, "one", "broken://x").flush()
    assert same(machine(tmp_path, "two", "broken://x").get(digests([1])), logits(1))


@pytest.mark.parametrize("what", ["ls", "get"])
def test_a_failed_fetch_is_a_miss_and_is_tried_again(tmp_path: Path, broken: type[Broken], what: str) -> None:
    store = machine(tmp_path, "two", "broken://x")
    fill(machine(tmp_path, "one", "broken://x"), 1)
    broken.down.add(what)
    store.refresh()
    assert store.missing(digests([1])) == [0]
    assert (store.remote.failures, store.remote.fetched) == (1, 0)
    assert list((tmp_path / "two" / FOLDER).iterdir()) == []
    broken.down.clear()
    store.refresh()
    assert same(store.get(digests([1])), logits(1))


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("nosuch://bucket/x", "Protocol not known: nosuch"),
        ("file:///proc/x", "FileNotFoundError"),
    ],
)
def test_a_url_that_cannot_be_used_is_an_error_when_the_store_is_opened(
    tmp_path: Path, url: str, reason: str
) -> None:
    with pytest.raises(StoreError, match=reason) as caught:
        machine(tmp_path, "one", url)
    assert f"stream.store.url: {url}" in caught.value.problem


def test_a_damaged_file_behind_the_url_is_not_used(tmp_path: Path, url: str) -> None:
    """It is fetched once, never gets a name here, and the rest is used."""
    one = machine(tmp_path, "one", url)
    fill(one, 1)
    fill(one, 2)
    bad = files(tmp_path / "one")[0].name
    fs, root = fsspec.url_to_fs(url)
    place = f"{root}/{FOLDER.as_posix()}/{bad}"
    content = bytearray(fs.cat_file(place))
    for number in (1, 2):  # whichever of the two rows this file has
        at = content.find(logits(number).columns["logits"].values.tobytes())
        content[at] ^= at > 0
    fs.pipe_file(place, bytes(content))
    two = machine(tmp_path, "two", url)
    two.refresh()
    assert (len(two), two.damaged, two.remote.fetched) == (1, 1, 1)
    assert bad not in [path.name for path in (tmp_path / "two" / FOLDER).iterdir()]


def test_a_damaged_file_here_is_replaced_by_the_whole_one_behind_the_url(tmp_path: Path, url: str) -> None:
    fill(machine(tmp_path, "one", url), 1)
    (path,) = files(tmp_path / "one")
    path.write_bytes(path.read_bytes()[:100])
    store = machine(tmp_path, "one", url)
    assert same(store.get(digests([1])), logits(1))
    assert store.damaged == 1


def test_what_does_not_fit_the_budget_is_not_fetched(tmp_path: Path, url: str) -> None:
    one = machine(tmp_path, "one", url)
    for number in range(4):
        fill(one, number)
    size = files(tmp_path / "one")[0].stat().st_size
    two = machine(tmp_path, "two", url, max_bytes=2.5 * size)
    assert (len(two), two.remote.fetched) == (2, 2)
    two.refresh()
    assert two.remote.fetched == 2


def test_a_local_copy_that_is_gone_is_fetched_again(tmp_path: Path, url: str) -> None:
    fill(machine(tmp_path, "one", url), 1)
    shutil.rmtree(tmp_path / "one")
    assert same(machine(tmp_path, "one", url).get(digests([1])), logits(1))
