"""The database: made once by many processes, refused when it is something else."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import update

from tutelage.errors import StoreError
from tutelage.registry import Database
from tutelage.registry.tables import SchemaRow

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]

WRITER = """
import sys
from pathlib import Path
from tutelage.registry import open_registry
home, me = Path(sys.argv[1]), sys.argv[2]
sys.path.append(sys.argv[3])
from tests.unit.registry_samples import card, model_folder
registry = open_registry(home)
runs, versions = registry.runs, registry.versions
for i in range(3):
    folder = model_folder(home / "in" / me / str(i), str(i).encode())
    version = versions.add("reviews", folder, card())
    versions.set_alias("reviews", "champion", version.id, why=str(i), who=me)
    versions.folder(version)
for i in range(8):
    runs.start(f"{me}-{i}", "distill", "job", "", digest="d")
    runs.finish(f"{me}-{i}", "done", {"i": i})
"""


def test_four_processes_at_once_lose_no_run_no_version_and_no_move(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(me), str(ROOT)],
            env={"PYTHONPATH": str(ROOT / "platform"), "PATH": "/usr/bin:/bin"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for me in range(4)
    ]
    for writer in writers:
        assert (writer.communicate(timeout=60)[1], writer.returncode) == ("", 0)
    from tutelage.registry import open_registry

    registry = open_registry(tmp_path)
    runs = registry.runs.list(status="done")
    assert sorted(run.run_id for run in runs) == sorted(f"{me}-{i}" for me in range(4) for i in range(8))
    versions = registry.versions.list()
    assert len(versions) == 3
    assert [registry.versions.verify(version) for version in versions] == [[]] * 3
    receipts = registry.versions.receipts("reviews")
    assert sorted((r.who, r.why) for r in receipts) == [
        (str(me), str(i)) for me in range(4) for i in range(3)
    ]
    moves = [(r.from_id, r.to_id) for r in reversed(receipts)]
    assert [before for before, _ in moves[1:]] == [after for _, after in moves[:-1]]


def test_another_schema_is_named_with_both_numbers(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'r.db'}")
    with database.write() as session:
        session.execute(update(SchemaRow).values(number=7))
    database.close()
    with pytest.raises(StoreError, match=r"newer tutelage: schema 7, this one reads 1"):
        Database(f"sqlite:///{tmp_path / 'r.db'}")


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.db").write_bytes(b"this is text, not a database " * 40)
    with pytest.raises(StoreError, match="not a database"):
        Database(f"sqlite:///{tmp_path / 'r.db'}")


@pytest.mark.parametrize("url", ["nonsense", "oracle9://here/there", "sqlite:////proc/nowhere/r.db"])
def test_a_url_that_cannot_be_opened_says_what_to_do(url: str) -> None:
    with pytest.raises(StoreError) as caught:
        Database(url)
    assert caught.value.fix


def test_the_password_of_a_url_is_never_shown() -> None:
    with pytest.raises(StoreError) as caught:
        Database("oracle9://me:hunter2@here/there")
    assert "hunter2" not in str(caught.value)


def test_an_exception_in_the_body_undoes_the_write(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'r.db'}")
    with suppress(KeyError), database.write() as session:
        session.execute(update(SchemaRow).values(number=9))
        raise KeyError
    database.close()
    Database(f"sqlite:///{tmp_path / 'r.db'}").close()


def test_the_environment_names_another_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTELAGE_DB", f"sqlite:///{tmp_path / 'team' / 'shared.db'}")
    Database.at_home(tmp_path / "home").close()
    assert (tmp_path / "team" / "shared.db").is_file()
