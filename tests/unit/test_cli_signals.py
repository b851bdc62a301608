"""`tutelage signals` from the outside, and the keys of `stream.store`."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.unit.signal_store_samples import age, digests, files, fill, logits, same
from tutelage.cli.main import VERBS, main
from tutelage.config.runtime import StreamConfig
from tutelage.config.store import StoreConfig
from tutelage.files import home
from tutelage.signals.spec import PayloadSpec
from tutelage.signals.store import ArrowStore, MemoryStore, open_store, signal_folder

pytestmark = pytest.mark.unit

SPEC = PayloadSpec("dense", 2)
TEACHER = "0123456789abcdef"
WHEN = 1_800_000_000


def call(*words: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    return main(["signals", *words], stdout=out, stderr=err, verbs=VERBS), out.getvalue(), err.getvalue()


@pytest.fixture
def folder() -> Path:
    """Two files of one teacher, one row each, last used on 2027-01-15."""
    folder = signal_folder(home(), TEACHER, SPEC)
    for number in (1, 2):
        fill(open_store(StoreConfig(), folder, "movies"), number)
    for path in files(folder):
        age(path, WHEN)
    return folder


def test_ls_has_a_row_for_each_teacher_and_payload(folder: Path) -> None:
    code, out, _ = call("ls")
    assert code == 0
    nbytes = sum(path.stat().st_size for path in files(folder))
    row = next(line for line in out.splitlines() if line.startswith(TEACHER)).split()
    assert row[:4] == [TEACHER, "movies", "dense-fp32-v2", "2"]
    assert row[-3:] == ["2", "2027-01-15", "08:00"]
    assert json.loads(call("ls", "--json")[1]) == {
        "root": str(home() / "signals"),
        "signals": [
            {
                "teacher": TEACHER,
                "names": ["movies"],
                "payload": "dense-fp32-v2",
                "examples": 2,
                "bytes": nbytes,
                "files": 2,
                "unreadable": 0,
                "last_use": "2027-01-15T08:00:00+00:00",
            }
        ],
    }


def test_no_signals_are_no_error() -> None:
    assert call("ls")[:2] == (0, f"no signals in {home() / 'signals'}\n")
    assert call("verify")[:2] == (0, "0 of 0 files are whole\n")
    assert call("gc")[:2] == (0, "removed 0 files, 0 B\n")


def test_verify_ends_with_1_when_a_file_is_damaged(folder: Path) -> None:
    assert call("verify")[:2] == (0, "2 of 2 files are whole\n")
    path = files(folder)[0]
    path.write_bytes(path.read_bytes()[:-3])
    code, out, _ = call("verify")
    assert code == 1
    assert out.startswith(f"{path}: not a signal file")
    assert "1 of 2 files are whole" in out
    code, out, _ = call("verify", "--json")
    data = json.loads(out)
    assert (code, data["ok"], data["files"]) == (1, False, 2)
    assert [fault["file"] for fault in data["faults"]] == [str(path)]


def test_gc_repairs_what_verify_found(folder: Path) -> None:
    path = files(folder)[0]
    path.write_bytes(b"torn")
    place = f"{TEACHER}/dense-fp32-v2/{path.name}"
    code, out, _ = call("gc", "--plan")
    assert code == 0
    assert out.splitlines()[0].startswith(f"{place}: damaged: not a signal file")
    assert out.splitlines()[-1] == "would remove 1 file, 4 B"
    assert path.exists()
    assert call("gc")[1].splitlines()[-1] == "removed 1 file, 4 B"
    assert call("verify")[:2] == (0, "1 of 1 files are whole\n")


def test_gc_merges_small_files(folder: Path) -> None:
    data = json.loads(call("gc", "--json")[1])
    assert [len(merged["files"]) for merged in data["merged"]] == [2]
    assert (len(files(folder)), data["removed"], data["bytes"]) == (1, [], 0)
    assert same(ArrowStore(folder).get(digests([2, 1])), logits(2, 1))


def test_gc_removes_what_is_old_or_too_much(folder: Path) -> None:
    for path in files(folder):
        age(path, time.time() - 3 * 86_400)
    assert json.loads(call("gc", "--older-than", "4d", "--plan", "--json")[1])["removed"] == []
    removed = json.loads(call("gc", "--older-than", "60h", "--plan", "--json")[1])["removed"]
    assert [one["reason"] for one in removed] == ["not used for long"] * 2
    assert call("gc", "--max-gb", "0")[0] == 0
    assert list((home() / "signals").iterdir()) == []


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["gc", "--older-than", "soon"], "--older-than soon is not a time"),
        (["gc", "--older-than", "-3d"], "--older-than -3d is not a time"),
        (["gc", "--max-gb", "-1"], "--max-gb -1.0 is not a size"),
        (["gc", "--max-gb", "nan"], "--max-gb nan is not a size"),
    ],
)
def test_a_wrong_argument_is_a_usage_error(words: list[str], problem: str, folder: Path) -> None:
    code, out, err = call(*words)
    assert (code, out) == (2, "")
    assert problem in err
    assert len(files(folder)) == 2


# The keys


def test_a_disabled_store_leaves_the_disk_alone() -> None:
    folder = signal_folder(home(), TEACHER, SPEC)
    store = open_store(StoreConfig(enabled=False, url="memory://unused"), folder)
    fill(store, 1)
    assert isinstance(store, MemoryStore)
    assert not (home() / "signals").exists()


def test_every_key_reaches_the_store(tmp_path: Path) -> None:
    config = StoreConfig(url=f"file://{tmp_path}/shared", flush_mb=1, max_gb=1e-9)
    folder = signal_folder(home(), TEACHER, SPEC)
    foreign = signal_folder(home(), "fedcba9876543210", SPEC)
    foreign.mkdir(parents=True)
    (foreign / f"{'0' * 32}.arrow").write_bytes(b"old")
    store = open_store(config, folder)
    store.put(digests(range(2000)), logits(*range(2000)))
    assert files(folder) == []
    store.put(digests(range(2000, 5000)), logits(*range(2000, 5000)))
    assert len(files(folder)) == 1  # past 1 MB
    assert files(foreign) == []  # past the budget
    store.flush()
    assert len(files(tmp_path / "shared")) == 1


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"url": "/mnt/signals"}, "'/mnt/signals' is not an fsspec URL"),
        ({"url": ""}, "'' is not an fsspec URL"),
        ({"url": "s3://"}, "'s3://' is not an fsspec URL"),
        ({"max_gb": 0}, "greater than 0"),
        ({"flush_mb": 0}, "greater than or equal to 1"),
        ({"flush_mb": 4096}, "less than or equal to 1024"),
        ({"max_size": 1}, "unknown key 'max_size'"),
    ],
)
def test_a_wrong_key_or_value_is_refused(values: dict, problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        StreamConfig(store=values)
