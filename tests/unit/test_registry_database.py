"""The database: made once by many processes, refused when it is something else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import update

from tutelage.errors import StoreError
from tutelage.registry import Database
from tutelage.registry.tables import SchemaRow

pytestmark = pytest.mark.unit

PLATFORM = Path(__file__).parents[2] / "platform"

WRITER = """
import sys
from pathlib import Path
from tutelage.registry import open_registry
home, me = Path(sys.argv[1]), sys.argv[2]
runs = open_registry(home).runs
for i in range(20):
    runs.start(f"{me}-{i}", "distill", "job", "", digest="d")
    runs.finish(f"{me}-{i}", "done", {"i": i})
"""


def test_four_processes_make_one_database_and_lose_no_run(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(me)],
            env={"PYTHONPATH": str(PLATFORM), "PATH": "/usr/bin:/bin"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for me in range(4)
    ]
    for writer in writers:
        assert (writer.communicate(timeout=60)[1], writer.returncode) == ("", 0)
    from tutelage.registry import open_registry

    runs = open_registry(tmp_path).runs.list(status="done")
    assert sorted(run.run_id for run in runs) == sorted(f"{me}-{i}" for me in range(4) for i in range(20))


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
    with pytest.raises(KeyError), database.write() as session:
        session.execute(update(SchemaRow).values(number=9))
        raise KeyError
    database.close()
    Database(f"sqlite:///{tmp_path / 'r.db'}").close()


def test_the_environment_names_another_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTELAGE_DB", f"sqlite:///{tmp_path / 'team' / 'shared.db'}")
    Database.at_home(tmp_path / "home").close()
    assert (tmp_path / "team" / "shared.db").is_file()
