"""Folders appear whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tutelage.data.folders import whole_folder

pytestmark = pytest.mark.unit


def test_a_folder_appears_at_the_end_of_the_body(tmp_path):
    target = tmp_path / "deep" / "made"
    with whole_folder(target) as folder:
        (folder / "a").write_text("x")
        assert not target.exists()
    assert (target / "a").read_text() == "x"
    assert [path.name for path in target.parent.iterdir()] == ["made"]


def test_an_exception_leaves_nothing(tmp_path):
    def build() -> None:
        with whole_folder(tmp_path / "made") as folder:
            (folder / "a").write_text("x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build()
    assert list(tmp_path.iterdir()) == []


def test_the_first_to_finish_stays(tmp_path):
    with whole_folder(tmp_path / "made") as late:
        (late / "a").write_text("late")
        with whole_folder(tmp_path / "made") as early:
            (early / "a").write_text("early")
    assert (tmp_path / "made" / "a").read_text() == "early"
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_replace_takes_the_place_of_the_old_one(tmp_path):
    for content in ("old", "new"):
        with whole_folder(tmp_path / "made", replace=True) as folder:
            (folder / content).write_text(content)
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_a_killed_process_leaves_no_folder_and_the_next_one_clears_its_rest(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path; from tutelage.data.folders import whole_folder\n"
        "with whole_folder(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'a').write_text('x'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "made")], env=environment, check=False)
    assert done.returncode == -9
    assert not (tmp_path / "made").exists()
    assert len(list(tmp_path.iterdir())) == 1
    with whole_folder(tmp_path / "made"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_a_target_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "made").write_text("a file")

    def build() -> None:
        with whole_folder(tmp_path / "made"):
            pass

    with pytest.raises(OSError, match="Not a directory"):
        build()
