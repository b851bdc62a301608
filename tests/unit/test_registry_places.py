"""Where a registry is: in any path, read where nothing can be written, and never in somebody else's file."""

from __future__ import annotations

import os
import shutil
import sqlite3
import string
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.unit.registry_samples import card, model_folder
from tutelage import files
from tutelage.cli import checks
from tutelage.cli.probes import Probes
from tutelage.errors import StoreError
from tutelage.registry import Database, Registry, open_registry, sqlite
from tutelage.registry.tables import LeaseRow

pytestmark = pytest.mark.unit


def fill(home: Path) -> Registry:
    """A registry with one finished run and one version."""
    registry = open_registry(home)
    registry.runs.start("d-1", "distill", "reviews", "", digest="abc")
    registry.runs.finish("d-1", "done")
    registry.versions.add("reviews", model_folder(home / "in", b"x"), card())
    return registry


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.text(f"{string.punctuation.replace('/', '')} aé%?#", min_size=1, max_size=12))
@example(name="a?b")
@example(name="100%25")
@example(name="a#b c")
@example(name="a::b")
@example(name="zip::x")
@example(name="file:x?mode=memory")
@example(name=":memory:")
def test_a_registry_is_in_its_home_whatever_the_home_is_called(tmp_path: Path, name: str) -> None:
    home = tmp_path / f"h{name}" / name.strip(".") if name.strip(".") else tmp_path / f"h{name}"
    registry = fill(home)
    assert {"registry.db", "artifacts"} <= set(os.listdir(home))
    assert [run.run_id for run in open_registry(home).runs.list()] == ["d-1"]
    (version,) = registry.versions.list()
    assert registry.versions.verify(version) == []
    assert (registry.versions.folder(version) / "model.onnx").is_file()
    shutil.rmtree(home)


@pytest.fixture
def locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home in which this user may read; root may always write, so the question is answered for it."""
    home = tmp_path / "read ?only"
    fill(home).database.close()
    monkeypatch.setattr(sqlite.os, "access", lambda path, mode: mode != os.W_OK)
    return home


def test_a_read_only_home_is_listed_and_nothing_is_put_there(locked: Path) -> None:
    before = sorted(os.listdir(locked))
    registry = open_registry(locked)
    assert [run.run_id for run in registry.runs.list()] == ["d-1"]
    assert len(registry.versions.list()) == 1
    with pytest.raises(StoreError, match="is read-only here"):
        registry.runs.start("d-2", "distill", "reviews", "", digest="abc")
    assert sorted(os.listdir(locked)) == before


def test_a_read_only_registry_that_others_write_is_read_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands in SQLite's log counts, though this process may not write."""
    writer = fill(tmp_path)
    writer.runs.start("d-2", "distill", "reviews", "", digest="abc")
    monkeypatch.setattr(sqlite.os, "access", lambda path, mode: mode != os.W_OK)
    assert len(open_registry(tmp_path).runs.list()) == 2


def test_a_reader_sees_what_a_writer_that_came_later_leaves_in_the_log(locked: Path) -> None:
    """Whether a log may be passed over is asked for each connection: a reader may be open for long."""
    reader = open_registry(locked)
    assert len(reader.runs.list()) == 1
    writer = sqlite3.connect(locked / "registry.db")
    with closing(writer), writer:
        writer.execute("UPDATE runs SET status = 'failed'")
        writer.commit()
        assert (locked / "registry.db-wal").stat().st_size
        assert [run.status for run in reader.runs.list()] == ["failed"]


def test_a_registry_without_leases_gets_them_and_is_read_where_it_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path).database.close()
    with sqlite3.connect(tmp_path / "registry.db") as connection:
        connection.execute(f"DROP TABLE {LeaseRow.__tablename__}")
    connection.close()
    with monkeypatch.context() as reader:
        reader.setattr(sqlite.os, "access", lambda path, mode: mode != os.W_OK)
        (run,) = open_registry(tmp_path).runs.list()
        assert (run.status, run.fence) == ("done", 0)
    registry = open_registry(tmp_path)
    registry.runs.start("d-1", "distill", "reviews", "", digest="abc", again=True)
    assert registry.runs.get("d-1").fence == 1


def test_readers_wait_for_no_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening and listing while another holds the write lock: not even a short wait is needed."""
    fill(tmp_path)
    monkeypatch.setattr(sqlite, "READ_S", 0)
    with Database.at_home(tmp_path).write():
        registry = open_registry(tmp_path)
        assert len(registry.runs.list()) == 1
        assert registry.runs.get("d-1").status == "done"
        assert len(registry.versions.list("reviews")) == 1


def test_an_empty_file_is_no_registry(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    path.touch()
    with pytest.raises(StoreError, match="is an empty file and no registry") as caught:
        open_registry(tmp_path)
    assert f"rm '{path}'" in caught.value.fix
    assert path.stat().st_size == 0
    path.unlink()
    fill(tmp_path)


def test_the_database_of_something_else_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE customers (id INTEGER)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="database of something else: it has the tables customers"):
        open_registry(tmp_path)
    assert path.read_bytes() == before


def test_a_registry_is_made_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(sqlite.os, "link", fail)
    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(StoreError, match="no space left"):
        Database.at_home(tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_home_that_cannot_be_made_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TUTELAGE_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(StoreError, match="file/home cannot be made: Not a directory") as caught:
        files.home()
    assert "TUTELAGE_HOME" in caught.value.fix
    (finding,) = checks.disk(Probes())
    assert finding.level == "fail"


@pytest.mark.parametrize("name", ["a[1]*?", "zip::b", "c%20d#e"])
def test_names_are_found_in_a_folder_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    for below in ("checkpoint_2", "checkpoint_1", "other"):
        (tmp_path / name / below).mkdir(parents=True)
    fs, place = files.filesystem(str(tmp_path / name))
    found = files.beginning(fs, place, "checkpoint_")
    assert [Path(path) for path in found] == [tmp_path / name / f"checkpoint_{n}" for n in (1, 2)]
    assert files.beginning(fs, f"{place}/not-there", "") == []


def test_a_url_is_opened_by_its_own_file_system() -> None:
    fs, place = files.filesystem("memory://bucket/a")
    assert (fs.protocol, place) == ("memory", "/bucket/a")
