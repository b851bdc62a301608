"""The signal store: what is put once is found by everybody, bit for bit. Shapes: N examples."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.signal_store_samples import FOLDER, digest, digests, files, fill, logits, ragged, same
from tutelage.errors import StoreError
from tutelage.signals.packet import Column, Packet, dense_packet
from tutelage.signals.store import ArrowStore, MemoryStore, SignalStore
from tutelage.signals.store.index import Index, as_keys

pytestmark = pytest.mark.unit


@pytest.fixture(params=["memory", "unflushed", "flushed", "reopened"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> SignalStore:
    """Every kind of store, with rows in every state: what `keep` does after a put decides."""
    if request.param == "memory":
        return MemoryStore()
    return _Kept(tmp_path / FOLDER, request.param)


class _Kept(ArrowStore):
    """An ArrowStore that flushes, or starts again, after each put."""

    def __init__(self, folder: Path, how: str) -> None:
        super().__init__(folder)
        self._how = how

    def put(self, digests: list[bytes], packet: Packet) -> None:
        super().put(digests, packet)
        if self._how != "unflushed":
            self.flush()
        if self._how == "reopened":
            self.__init__(self._folder, self._how)


# What every store does


def test_rows_come_bit_for_bit_in_the_order_asked(store: SignalStore) -> None:
    store.put(digests([1, 2, 3]), logits(1, 2, 3))
    assert same(store.get(digests([3, 1])), logits(3, 1))


def test_columns_may_count_their_rows_differently(store: SignalStore) -> None:
    """Examples without a row in a column, int8 and float16, and rows of two axes."""
    store.put(digests(range(8)), ragged(*range(8)))
    store.put(digests(range(8, 24)), ragged(*range(8, 24)))
    order = [9, 0, 12, 4, 23, 7, 4]
    assert same(store.get(digests(order)), ragged(*order))


def test_an_answer_without_a_single_value_has_the_right_types(store: SignalStore) -> None:
    store.put(digests([12, 13]), ragged(12, 13))
    assert same(store.get(digests([12])), ragged(12))
    assert same(store.get([]), ragged())


def test_missing_gives_positions_and_makes_the_answer_none(store: SignalStore) -> None:
    assert store.missing(digests([1, 2])) == [0, 1]
    store.put(digests([1]), logits(1))
    assert store.missing(digests([2, 1, 3, 2])) == [0, 2, 3]
    assert store.get(digests([1, 2])) is None
    assert store.get(digests([2])) is None
    assert store.missing([]) == []


def test_the_first_write_of_an_example_wins(store: SignalStore) -> None:
    store.put(digests([1]), logits(1))
    store.put(digests([1, 2]), logits(8, 2))
    assert same(store.get(digests([1, 2])), logits(1, 2))


def test_an_example_that_stands_twice_in_a_batch_is_kept_once_and_found_twice(store: SignalStore) -> None:
    store.put(digests([1, 1]), logits(1, 9))
    assert same(store.get(digests([1, 1])), logits(1, 1))
    assert len(store) == 1


def test_what_a_caller_does_with_its_arrays_does_not_reach_the_store(store: SignalStore) -> None:
    mine = logits(1)
    store.put(digests([1]), mine)
    mine.columns["logits"].values[:] = 0
    found = store.get(digests([1]))
    assert same(found, logits(1))
    found.columns["logits"].values[:] = 0
    found.lengths_N[:] = 7
    assert same(store.get(digests([1])), logits(1))


def test_a_packet_that_does_not_fit_its_digests_is_refused(store: SignalStore) -> None:
    with pytest.raises(StoreError, match="2 digests for a packet of 1"):
        store.put(digests([1, 2]), logits(1))
    with pytest.raises(StoreError, match="16 bytes"):
        store.put([b"short"], logits(1))
    counts = np.array([2], np.int32)
    with pytest.raises(StoreError, match="column 'x': its row counts"):
        store.put(digests([1]), Packet(counts, {"x": Column(np.zeros(3), counts)}))
    assert store.missing(digests([1])) == [0]


@pytest.mark.parametrize(
    "values",
    [np.array([object()]), np.zeros((1, 0)), np.zeros(1, "V4")],
    ids=["objects", "rows of nothing", "bytes without a type"],
)
def test_values_that_could_not_be_read_back_are_refused_when_they_are_put(
    store: SignalStore, values: np.ndarray
) -> None:
    with pytest.raises(StoreError, match=r"column 'logits': .* cannot be stored"):
        store.put(digests([1]), dense_packet(values))


def test_a_packet_of_another_layout_is_refused(tmp_path: Path) -> None:
    for store in (MemoryStore(), ArrowStore(tmp_path / FOLDER)):
        store.put(digests([1]), logits(1))
        with pytest.raises(StoreError, match=r"<f8.* was put where .*<f4"):
            store.put(digests([2]), dense_packet(np.zeros((1, 2))))
        assert same(store.get(digests([1])), logits(1))


# The folder that processes share


def test_another_store_sees_what_was_flushed_when_it_looks_again(tmp_path: Path) -> None:
    writer, reader = ArrowStore(tmp_path / FOLDER), ArrowStore(tmp_path / FOLDER)
    writer.put(digests([1]), logits(1))
    reader.refresh()
    assert reader.get(digests([1])) is None  # not flushed
    writer.flush()
    assert reader.get(digests([1])) is None  # not looked
    reader.refresh()
    assert same(reader.get(digests([1])), logits(1))


def test_one_answer_may_come_from_many_files_and_memory(tmp_path: Path) -> None:
    for number in range(20):
        fill(ArrowStore(tmp_path / FOLDER), number)
    store = ArrowStore(tmp_path / FOLDER)
    store.put(digests([20]), logits(20))
    order = [20, 3, 19, 0, 3]
    assert same(store.get(digests(order)), logits(*order))


def test_a_flush_with_nothing_new_writes_no_file(tmp_path: Path) -> None:
    store = ArrowStore(tmp_path / FOLDER)
    store.flush()
    fill(store, 1)
    fill(store, 1)
    fill(ArrowStore(tmp_path / FOLDER), 1)
    assert len(list((tmp_path / FOLDER).iterdir())) == 1


def test_a_store_keeps_its_own_row_when_another_wrote_the_same_example_first(tmp_path: Path) -> None:
    """What a training has used stays what it was, whoever else flushes."""
    mine, other = ArrowStore(tmp_path / FOLDER), ArrowStore(tmp_path / FOLDER)
    mine.put(digests([1]), logits(1))
    other.put(digests([1]), logits(7))
    other.flush()
    mine.refresh()
    assert same(mine.get(digests([1])), logits(1))
    mine.flush()
    mine.refresh()
    assert same(mine.get(digests([1])), logits(1))


def test_rows_past_the_limit_are_written_without_being_asked(tmp_path: Path) -> None:
    store = ArrowStore(tmp_path / FOLDER, flush_bytes=10_000)
    for number in range(100):
        store.put(digests([number]), logits(number))
        assert store.nbytes < 10_000 + 24 * 100 + 300
    assert len(files(tmp_path)) >= 2
    assert same(store.get(digests(range(100))), logits(*range(100)))


def test_memory_is_an_index_of_24_bytes_an_example(tmp_path: Path) -> None:
    """Also when the rows came in many files, and whatever a row's values take."""
    rng = np.random.default_rng(0)
    keys = [rng.bytes(16) for _ in range(5000)]
    values = rng.normal(size=(5000, 64)).astype(np.float32)
    writer = ArrowStore(tmp_path / FOLDER)
    for start in range(0, 5000, 100):
        writer.put(keys[start : start + 100], dense_packet(values[start : start + 100]))
        writer.flush()
    store = ArrowStore(tmp_path / FOLDER)
    assert len(store) == 5000
    assert store.nbytes == writer.nbytes == 24 * 5000
    order = rng.permutation(5000)[:700].tolist()
    assert same(store.get([keys[n] for n in order]), dense_packet(values[order]))


def test_open_files_take_no_descriptor(tmp_path: Path) -> None:
    """A store of thousands of files would otherwise reach the limit of the process."""
    store = ArrowStore(tmp_path / FOLDER)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(30):
        fill(store, number)
    reader = ArrowStore(tmp_path / FOLDER)
    assert len(os.listdir("/proc/self/fd")) <= before + 1
    assert same(reader.get(digests(range(30))), logits(*range(30)))


def test_an_open_store_goes_on_when_its_files_are_removed(tmp_path: Path) -> None:
    fill(ArrowStore(tmp_path / FOLDER), 1, 2)
    store = ArrowStore(tmp_path / FOLDER)
    for path in files(tmp_path):
        path.unlink()
    (tmp_path / FOLDER).rmdir()
    store.refresh()
    assert same(store.get(digests([2, 1])), logits(2, 1))
    fill(store, 3)
    assert same(ArrowStore(tmp_path / FOLDER).get(digests([3])), logits(3))


def test_a_folder_that_is_cleaned_up_during_a_write_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ArrowStore(tmp_path / FOLDER)
    make, removed = tempfile.mkstemp, []

    def remove_first(**options: Any) -> Any:
        if not removed:
            removed.append((tmp_path / FOLDER).rmdir())
        return make(**options)

    monkeypatch.setattr(tempfile, "mkstemp", remove_first)
    fill(store, 1)
    assert len(removed) == 1
    assert same(ArrowStore(tmp_path / FOLDER).get(digests([1])), logits(1))


def test_a_write_that_fails_leaves_nothing_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ArrowStore(tmp_path / FOLDER)
    store.put(digests([1]), logits(1))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match="No space left") as caught:
            store.flush()
    assert "signals gc" in caught.value.fix
    assert list((tmp_path / FOLDER).iterdir()) == []
    assert same(store.get(digests([1])), logits(1))
    store.flush()
    assert same(ArrowStore(tmp_path / FOLDER).get(digests([1])), logits(1))


def test_a_folder_that_cannot_be_made_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file/0123456789abcdef/dense-fp32-v2 cannot be made"):
        ArrowStore(tmp_path / "file" / FOLDER)


# The index


def test_the_index_finds_what_a_dictionary_finds() -> None:
    """Random digests in random portions, repeated ones among them, with zero bytes at either end."""
    rng = np.random.default_rng(1)
    pool = [rng.bytes(16) for _ in range(300)] + [digest(n) for n in range(50)]
    pool += [digest(n)[::-1] for n in range(1, 50)]
    index, twin = Index(), {}
    for file in range(60):
        keys = [pool[n] for n in rng.integers(0, len(pool), size=rng.integers(1, 20))]
        new = [key for key in dict.fromkeys(keys) if key not in twin]
        assert index.add(as_keys(keys), file) == len(new)
        twin |= {key: (file, keys.index(key)) for key in new}
    assert index.runs <= 5
    for file, row in list(twin.values())[:20]:
        index.drop(file, row)
    twin = dict(list(twin.items())[20:])
    index.drop(33)
    twin = {key: place for key, place in twin.items() if place[0] != 33}
    found = [array.tolist() for array in index.find(as_keys(pool))]
    assert list(zip(*found, strict=True)) == [twin.get(key, (-1, -1)) for key in pool]
    assert len(index) == len(twin)
