"""The signal store: what is put once is found by everybody, whole or not at all. Shapes: N examples."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pytest

from tutelage.errors import StoreError
from tutelage.signals.exchange import Logits
from tutelage.signals.store import ArrowStore, MemoryStore, SignalStore

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]


def digest(number: int) -> bytes:
    return number.to_bytes(16, "big")


def logits(*rows: int) -> Logits:
    """A recognisable row of two logits for each number."""
    return np.array([[row + 0.25, -row] for row in rows], dtype=np.float32)


@pytest.fixture(params=["memory", "arrow"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> SignalStore:
    return MemoryStore() if request.param == "memory" else ArrowStore(tmp_path / "dense")


# What every store does


def test_rows_come_in_the_order_asked(store: SignalStore) -> None:
    store.put([digest(1), digest(2), digest(3)], logits(1, 2, 3))
    found = store.get([digest(3), digest(1)])
    assert found is not None
    assert found.dtype == np.float32
    assert found.tolist() == logits(3, 1).tolist()


def test_one_missing_example_makes_the_answer_none(store: SignalStore) -> None:
    store.put([digest(1)], logits(1))
    assert store.get([digest(1), digest(2)]) is None
    assert store.get([digest(2)]) is None


def test_the_first_write_of_an_example_wins(store: SignalStore) -> None:
    store.put([digest(1)], logits(1))
    store.put([digest(1), digest(2)], logits(8, 2))
    store.flush()
    found = store.get([digest(1), digest(2)])
    assert found is not None
    assert found.tolist() == logits(1, 2).tolist()


def test_an_example_that_stands_twice_in_a_batch_is_found_twice(store: SignalStore) -> None:
    store.put([digest(1), digest(1)], logits(1, 9))
    found = store.get([digest(1), digest(1)])
    assert found is not None
    assert found.tolist() == logits(1, 1).tolist()


def test_what_a_caller_does_with_an_answer_does_not_reach_the_store(store: SignalStore) -> None:
    store.put([digest(1)], logits(1))
    found = store.get([digest(1)])
    assert found is not None
    found[:] = 0
    again = store.get([digest(1)])
    assert again is not None
    assert again.tolist() == logits(1).tolist()


# The folder that processes share


def test_another_store_sees_what_was_flushed_when_it_looks_again(tmp_path: Path) -> None:
    writer, reader = ArrowStore(tmp_path), ArrowStore(tmp_path)
    writer.put([digest(1)], logits(1))
    reader.refresh()
    assert reader.get([digest(1)]) is None  # not flushed
    writer.flush()
    assert reader.get([digest(1)]) is None  # not looked
    reader.refresh()
    found = reader.get([digest(1)])
    assert found is not None
    assert found.tolist() == logits(1).tolist()


def test_a_later_run_finds_what_was_flushed_bit_for_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(50, 7)).astype(np.float32)
    digests = [digest(n) for n in range(50)]
    for part in (slice(0, 20), slice(20, 50)):
        writer = ArrowStore(tmp_path)
        writer.put(digests[part], rows[part])
        writer.flush()
    found = ArrowStore(tmp_path).get(digests)
    assert found is not None
    assert found.tobytes() == rows.tobytes()


def test_a_flush_with_nothing_new_writes_no_file(tmp_path: Path) -> None:
    store = ArrowStore(tmp_path)
    store.flush()
    store.put([digest(1)], logits(1))
    store.flush()
    store.put([digest(1)], logits(1))
    store.flush()
    other = ArrowStore(tmp_path)
    other.put([digest(1)], logits(1))
    other.flush()
    assert len(list(tmp_path.iterdir())) == 1


def test_a_store_keeps_its_own_row_when_another_wrote_the_same_example_first(tmp_path: Path) -> None:
    """What a training has used stays what it was, whoever else flushes."""
    mine, other = ArrowStore(tmp_path), ArrowStore(tmp_path)
    other.put([digest(1)], logits(7))
    other.flush()
    mine.put([digest(1)], logits(1))
    mine.flush()
    mine.refresh()
    found = mine.get([digest(1)])
    assert found is not None
    assert found.tolist() == logits(1).tolist()


def test_a_write_that_fails_leaves_nothing_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ArrowStore(tmp_path)
    store.put([digest(1)], logits(1))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            store.flush()
    assert list(tmp_path.iterdir()) == []
    store.flush()
    assert ArrowStore(tmp_path).get([digest(1)]) is not None


def test_the_half_file_of_a_killed_writer_is_not_looked_at(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "import numpy as np\n"
        "from tutelage.signals.store import ArrowStore\n"
        "store = ArrowStore(Path(sys.argv[1]))\n"
        "store.put([bytes(16)], np.ones((1, 2), np.float32))\n"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        "store.flush()\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, tmp_path], env=_environment(), check=False)
    assert killed.returncode == -9
    assert len(list(tmp_path.iterdir())) == 1  # what the kill left behind
    assert ArrowStore(tmp_path).get([bytes(16)]) is None


@pytest.mark.parametrize("content", [b"", b"ARROW1\0\0 and then nothing", b"x" * 4096], ids=len)
def test_a_file_that_is_no_arrow_file_is_an_error_that_names_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.arrow"
    path.write_bytes(content)
    with pytest.raises(StoreError, match="not a signal file") as caught:
        ArrowStore(tmp_path)
    assert str(path) in caught.value.problem
    assert "delete the file" in caught.value.fix


def test_a_truncated_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    store = ArrowStore(tmp_path)
    store.put([digest(n) for n in range(100)], logits(*range(100)))
    store.flush()
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(StoreError, match="not a signal file"):
        ArrowStore(tmp_path)


@pytest.mark.parametrize(
    "columns",
    [
        {"text": ["a"]},
        {"digest": [bytes(16)], "logits": [1.0]},
        {"digest": ["a"], "logits": pa.array([[1.0, 2.0]], pa.list_(pa.float32(), 2))},
        {"digest": pa.array([bytes(16)], pa.binary(16)), "logits": [[1.0, 2.0]]},
    ],
    ids=["other columns", "no rows of logits", "digests that are text", "lists of any length"],
)
def test_an_arrow_file_of_something_else_is_an_error_that_names_it(tmp_path: Path, columns: dict) -> None:
    path = tmp_path / "other.arrow"
    table = pa.table(columns)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(StoreError, match="not a signal file") as caught:
        ArrowStore(tmp_path)
    assert str(path) in caught.value.problem


def test_writers_in_several_processes_lose_no_row(tmp_path: Path) -> None:
    """Two processes flush ten times each into one folder; a third of the rows is everybody's."""
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "import numpy as np\n"
        "from tutelage.signals.store import ArrowStore\n"
        "folder, number = Path(sys.argv[1]), int(sys.argv[2])\n"
        "store = ArrowStore(folder)\n"
        "for step in range(10):\n"
        "    rows = [number * 1000 + step * 2, number * 1000 + step * 2 + 1, 900_000 + step]\n"
        "    values = np.array([[row, -row] for row in rows], np.float32)\n"
        "    store.put([row.to_bytes(16, 'big') for row in rows], values)\n"
        "    store.flush()\n"
        "    store.refresh()\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", program, tmp_path, str(n)], env=_environment())
        for n in range(2)
    ]
    assert [writer.wait() for writer in writers] == [0, 0]
    rows = [n * 1000 + k for n in range(2) for k in range(20)] + [900_000 + k for k in range(10)]
    store = ArrowStore(tmp_path)
    found = store.get([row.to_bytes(16, "big") for row in rows])
    assert found is not None
    assert found.tolist() == [[row, -row] for row in rows]
    assert len(store) == len(rows)


def _environment() -> dict[str, str]:
    return {"PYTHONPATH": str(ROOT / "platform"), "PATH": ""}
