"""Writers of signals are killed while they write: what was flushed is there, and nothing else is read."""

from __future__ import annotations

import os
import random
import selectors
import signal
from pathlib import Path

import pytest

from tests.unit.signal_store_samples import FOLDER, SHARED, digests, logits, same, writer
from tutelage.signals.store import ArrowStore
from tutelage.signals.store.budget import stored_files
from tutelage.signals.store.upkeep import verify

pytestmark = pytest.mark.e2e


def test_a_writer_killed_at_a_random_moment_loses_nothing_that_was_flushed(tmp_path: Path) -> None:
    """Two writers at once, six times; SIGKILL after a random flush, wherever the process is by then."""
    folder = tmp_path / FOLDER
    dice = random.Random(7)
    flushed: dict[int, int] = {}
    for start in range(0, 12, 2):
        writers = {number: writer(folder, number, 10_000) for number in (start, start + 1)}
        last = {number: dice.randrange(2, 25) for number in writers}
        with selectors.DefaultSelector() as ready:
            for number, process in writers.items():
                ready.register(process.stdout, selectors.EVENT_READ, number)
            while ready.get_map():
                for key, _ in ready.select():
                    line = key.fileobj.readline()
                    if line and int(line) == last[key.data]:
                        os.kill(writers[key.data].pid, signal.SIGKILL)
                    if line:
                        flushed[key.data] = int(line)
                    else:
                        ready.unregister(key.fileobj)
        assert [process.wait() for process in writers.values()] == [-9, -9]
        for process in writers.values():
            process.stdout.close()
    store = ArrowStore(folder)
    rows = [n * 100_000 + k for n, step in flushed.items() for k in range(2 * step + 2)]
    rows += [SHARED + step for step in range(max(flushed.values()) + 1)]
    assert same(store.get(digests(rows)), logits(*rows))
    assert store.damaged == 0
    assert verify(stored_files(tmp_path)) == []
