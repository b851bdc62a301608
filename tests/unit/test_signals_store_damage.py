"""A torn, flipped or foreign file is a miss: never a wrong read, never an exception.

Not covered: a file that somebody shortens while it is mapped. The store never does; the kernel then ends the
reader with SIGBUS.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.unit.signal_store_samples import FOLDER, digests, files, fill, logits, ragged, same
from tutelage.signals.packet import dense_packet
from tutelage.signals.store import ArrowStore
from tutelage.signals.store.segment import Segment

pytestmark = pytest.mark.unit

ROWS = (5, 7, 10)


@pytest.fixture
def whole(tmp_path: Path) -> tuple[Path, bytes]:
    """A file of three ragged rows, and its bytes."""
    store = ArrowStore(tmp_path / FOLDER, teacher="movies")
    store.put(digests(ROWS), ragged(*ROWS))
    store.flush()
    (path,) = files(tmp_path)
    return path, path.read_bytes()


def right_or_missing(folder: Path) -> int:
    """How many of the rows a fresh store gives; fails when one is given wrong or `missing` is wrong."""
    store = ArrowStore(folder)
    held = 0
    for number in ROWS:
        found = store.get(digests([number]))
        assert found is None or same(found, ragged(number))
        assert store.missing(digests([number])) == ([0] if found is None else [])
        held += found is not None
    return held


@pytest.fixture(autouse=True)
def _quiet() -> None:
    logging.getLogger("tutelage.signals.store.arrow").setLevel(logging.CRITICAL)
    yield
    logging.getLogger("tutelage.signals.store.arrow").setLevel(logging.NOTSET)


def test_a_file_cut_at_any_byte_is_a_miss(whole: tuple[Path, bytes]) -> None:
    path, content = whole
    for length in range(len(content)):
        path.write_bytes(content[:length])
        store = ArrowStore(path.parent)
        assert (len(store), store.damaged) == (0, 1)
        assert store.get(digests(ROWS)) is None


def test_a_file_whose_end_was_never_written_is_a_miss(whole: tuple[Path, bytes]) -> None:
    """The length is right and the last blocks are zeros, as after a power cut."""
    path, content = whole
    for length in range(0, len(content), 8):
        path.write_bytes(content[:length] + bytes(len(content) - length))
        assert right_or_missing(path.parent) < 3 or not any(content[length:])


def test_a_flipped_bit_at_any_byte_never_gives_a_wrong_row(whole: tuple[Path, bytes]) -> None:
    """One bit of each byte, another one at each; most flips lose the file, some a row, few nothing."""
    path, content = whole
    held = []
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place * 5 % 8
        path.write_bytes(flipped)
        held.append(right_or_missing(path.parent))
    assert {0, 2, 3} <= set(held)


def test_random_bytes_in_a_file_never_give_a_wrong_row(whole: tuple[Path, bytes]) -> None:
    path, content = whole
    rng = np.random.default_rng(3)
    for _ in range(400):
        changed = bytearray(content)
        start = int(rng.integers(0, len(content)))
        piece = rng.bytes(int(rng.integers(1, 40)))
        changed[start : start + len(piece)] = piece[: len(content) - start]
        path.write_bytes(changed)
        right_or_missing(path.parent)


def test_a_damaged_row_costs_only_itself_and_can_be_put_again(whole: tuple[Path, bytes]) -> None:
    path, content = whole
    flipped = bytearray(content)
    flipped[content.index(ragged(7).columns["scores"].values.tobytes())] ^= 1
    path.write_bytes(flipped)
    store = ArrowStore(path.parent)
    assert store.missing(digests(ROWS)) == []
    assert store.get(digests(ROWS)) is None
    assert (store.missing(digests(ROWS)), store.damaged) == ([1], 1)
    assert same(store.get(digests([5, 10])), ragged(5, 10))
    store.put(digests([7]), ragged(7))
    store.flush()
    assert same(store.get(digests(ROWS)), ragged(*ROWS))
    assert same(ArrowStore(path.parent).get(digests(ROWS)), ragged(*ROWS))


def test_a_row_under_the_digest_of_another_is_a_miss(whole: tuple[Path, bytes]) -> None:
    path, content = whole
    five, seven = digests([5, 7])
    path.write_bytes(content.replace(five + seven, seven + five))
    store = ArrowStore(path.parent)
    assert [store.get([one]) for one in (five, seven)] == [None, None]
    assert same(store.get(digests([10])), ragged(10))


def test_a_damaged_file_is_logged_once(whole: tuple[Path, bytes], caplog: pytest.LogCaptureFixture) -> None:
    path, content = whole
    path.write_bytes(content[:-1])
    with caplog.at_level(logging.WARNING, "tutelage.signals.store.arrow"):
        store = ArrowStore(path.parent)
        store.refresh()
        store.refresh()
    assert [str(path) in record.getMessage() for record in caplog.records] == [True]
    assert store.damaged == 1


@pytest.mark.parametrize(
    "columns",
    [
        {"text": ["a"]},
        {"digest": [bytes(16)], "length": [1.0], "check": [bytes(8)]},
        {"digest": pa.array([bytes(16)], pa.binary(16))},
    ],
    ids=["other columns", "other types", "too few columns"],
)
@pytest.mark.parametrize("keep_metadata", [True, False])
def test_an_arrow_file_of_something_else_is_a_miss(
    whole: tuple[Path, bytes], columns: dict, keep_metadata: bool
) -> None:
    path, _ = whole
    with pa.memory_map(str(path)) as source:
        metadata = pa.ipc.open_file(source).schema.metadata
    table = pa.table(columns).replace_schema_metadata(metadata if keep_metadata else None)
    path.unlink()
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    store = ArrowStore(path.parent)
    assert (len(store), store.damaged) == (0, 1)


@pytest.mark.parametrize("place", ["another-teacher/dense-fp32-v2", "0123456789abcdef/another-spec"])
def test_a_file_of_another_teacher_or_spec_is_a_miss(whole: tuple[Path, bytes], place: str) -> None:
    path, _ = whole
    other = path.parents[2] / place
    other.mkdir(parents=True)
    shutil.copy(path, other)
    store = ArrowStore(other)
    assert store.missing(digests(ROWS)) == [0, 1, 2]
    assert store.damaged == 1


def test_files_of_another_layout_give_way_to_what_this_process_puts(tmp_path: Path) -> None:
    """Such as those of an older release whose payload had other columns."""
    old = ArrowStore(tmp_path / FOLDER)
    old.put(digests([1]), dense_packet(np.ones((1, 2))))
    old.flush()
    store = ArrowStore(tmp_path / FOLDER)
    store.put(digests([2]), logits(2))
    assert (store.missing(digests([1, 2])), store.damaged) == ([0], 1)
    fill(store, 1)
    assert same(store.get(digests([1, 2])), logits(1, 2))


def test_names_that_no_store_writes_are_not_looked_at(tmp_path: Path) -> None:
    store = ArrowStore(tmp_path / FOLDER)
    for name in ("notes.txt", "x.arrow", f".{'0' * 32}.arrow.abc123", f"{'0' * 32}.arrow.bak"):
        (tmp_path / FOLDER / name).write_bytes(b"anything")
    store.refresh()
    assert store.damaged == 0


def test_a_file_says_whose_signals_it_holds(whole: tuple[Path, bytes]) -> None:
    """Other programs read it as an Arrow file: digest, length, check, and one binary column for each."""
    path, _ = whole
    table = pa.ipc.open_file(path.read_bytes()).read_all()
    assert table.column_names == [
        "digest",
        "length",
        "check",
        "values:scores",
        "values:labels",
        "values:bias",
    ]
    assert table["length"].to_pylist() == [1, 3, 2]
    labels = np.frombuffer(table["values:labels"][0].as_py(), "<i4")
    assert labels.tolist() == ragged(5).columns["labels"].values.tolist()
    about = Segment(path).about
    assert (about.identity.teacher, about.identity.spec) == FOLDER.parts
    assert about.names == ("movies",)
