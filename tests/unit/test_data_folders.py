"""Folders appear whole or not at all."""

from __future__ import annotations

import errno
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
    assert len(list(tmp_path.iterdir())) == 2
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


def test_who_builds_elsewhere_is_left_alone_for_a_day(tmp_path, monkeypatch):
    """Another machine's processes cannot be looked for; a step of the clock here does not make them old."""
    import tutelage.data.folders as folders

    with monkeypatch.context() as there:
        there.setattr(folders, "boot", lambda: "another machine")
        left = folders.tempfile.mkdtemp(dir=tmp_path, prefix=folders._prefix(tmp_path / "made"))
    (tmp_path / left / "part").write_text("x")
    monkeypatch.setattr("time.time", lambda: 4e9)
    with whole_folder(tmp_path / "made"):
        pass
    assert (tmp_path / left / "part").exists()
    for path in (tmp_path / left / "part", tmp_path / left):
        os.utime(path, (1e9, 1e9))
    with whole_folder(tmp_path / "made", replace=True):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_two_who_build_the_same_leave_each_other_alone(tmp_path):
    """On one machine, in whatever containers: the lock is the kernel's, and pids are not asked for."""
    code = (
        "import sys; from pathlib import Path; from tutelage.data.folders import whole_folder\n"
        "with whole_folder(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'a').write_text('x'); print(folder, flush=True); input()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, str(tmp_path / "made")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    with subprocess.Popen(command, **pipes) as other:
        folder = other.stdout.readline().strip()
        with whole_folder(tmp_path / "made"):
            pass
        assert os.path.exists(f"{folder}/a")
        other.communicate("\n")
    assert other.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_a_folder_that_appears_while_it_is_looked_at_is_no_rest(tmp_path):
    """Another machine renames its scratch folder between the listing and the look."""
    import tutelage.data.folders as folders

    assert not folders._silent(tmp_path / ".made.0123abcd.abcdefgh")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("missing", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_only_age_says_that_nobody_builds(tmp_path, monkeypatch, missing):
    import tutelage.data.folders as folders

    def no_locks(*_: object) -> None:
        raise OSError(missing, os.strerror(missing))

    monkeypatch.setattr(folders.fcntl, "flock", no_locks)
    left = tmp_path / f"{folders._prefix(tmp_path / 'made')}abcdefgh"
    left.mkdir()
    lock = folders._lock_of(left)
    lock.touch()
    with whole_folder(tmp_path / "made"):
        pass
    assert left.exists()
    for path in (left, lock):
        os.utime(path, (1e9, 1e9))
    with whole_folder(tmp_path / "made", replace=True):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_a_lock_left_alone_is_swept_and_one_that_is_held_is_not(tmp_path):
    """A kill may come between the lock and its folder, or between a folder's rename and its lock's end."""
    import tutelage.data.folders as folders

    names = (folders._prefix(tmp_path / "made"), ".made.0123abcd.")
    alone, held, elsewhere = (
        tmp_path / f"{prefix}{end}.lock"
        for prefix, end in ((names[0], "abcdefgh"), (names[0], "ijklmnop"), (names[1], "abcdefgh"))
    )
    for path in (alone, held, elsewhere):
        path.touch()
    os.utime(elsewhere, (1e9, 1e9))
    with held.open("r+") as file:
        folders.fcntl.flock(file, folders.fcntl.LOCK_EX)
        with whole_folder(tmp_path / "made"):
            pass
    assert {path.name for path in tmp_path.iterdir()} == {"made", held.name}
