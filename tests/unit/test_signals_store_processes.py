"""Processes write one folder at once, or are killed just before a file gets its name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.signal_store_samples import FOLDER, SHARED, digests, environment, files, logits, same, writer
from tutelage.signals.store import ArrowStore
from tutelage.signals.store.budget import stored_files

pytestmark = pytest.mark.unit


def test_writers_in_several_processes_lose_no_row(tmp_path: Path) -> None:
    """Three processes flush ten times each into one folder; a third of the rows is everybody's."""
    folder = tmp_path / FOLDER
    writers = [writer(folder, n, 10) for n in range(3)]
    assert [process.communicate()[1] or process.returncode for process in writers] == [0, 0, 0]
    rows = [n * 100_000 + k for n in range(3) for k in range(20)] + [SHARED + k for k in range(10)]
    store = ArrowStore(folder)
    assert same(store.get(digests(rows)), logits(*rows))
    assert (len(store), store.damaged) == (len(rows), 0)


@pytest.mark.parametrize("moment", ["os.fsync", "os.replace"])
def test_the_half_file_of_a_killed_writer_is_not_looked_at(tmp_path: Path, moment: str) -> None:
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from tests.unit.signal_store_samples import digests, logits\n"
        "from tutelage.signals.store import ArrowStore\n"
        "store = ArrowStore(Path(sys.argv[1]))\n"
        "store.put(digests([1]), logits(1))\n"
        f"{moment} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "store.flush()\n"
    )
    folder = tmp_path / FOLDER
    killed = subprocess.run([sys.executable, "-c", program, folder], env=environment(), check=False)
    assert killed.returncode == -9
    assert files(folder) == []
    assert len(stored_files(tmp_path, leftovers=True)) == len(list(folder.iterdir())) == 1
    store = ArrowStore(folder)
    assert (store.missing(digests([1])), store.damaged) == ([0], 0)
