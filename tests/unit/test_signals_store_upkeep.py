"""Making room: eviction while a run goes on, and what `tutelage signals` does by hand."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.unit.signal_store_samples import (
    FOLDER,
    Clock,
    age,
    digests,
    files,
    fill,
    logits,
    same,
)
from tutelage.errors import StoreError
from tutelage.signals.store import ArrowStore, arrow, budget, compact
from tutelage.signals.store.budget import stored_files
from tutelage.signals.store.upkeep import HOUR_S, clean, usage, verify

pytestmark = pytest.mark.unit

OTHER = Path("fedcba9876543210") / "dense-fp32-v2"


@pytest.fixture(autouse=True)
def written(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Files written so far in this test; emptied to make them those of another process."""
    paths: set[str] = set()
    monkeypatch.setattr(budget, "WRITTEN", paths)
    monkeypatch.setattr(arrow, "WRITTEN", paths)
    return paths


def one_row(root: Path, number: int, used: float, folder: Path = FOLDER) -> Path:
    """A file of one row, last used at some time."""
    before = set(files(root))
    fill(ArrowStore(root / folder), number)
    (path,) = set(files(root)) - before
    age(path, used)
    return path


def damage(path: Path, number: int) -> None:
    """Flip one bit of the values of one row."""
    content = bytearray(path.read_bytes())
    content[content.index(logits(number).columns["logits"].values.tobytes())] ^= 1
    used = path.stat().st_mtime
    path.write_bytes(content)
    age(path, used)


# While a run goes on


def test_the_least_recently_used_files_of_any_teacher_go_first(tmp_path: Path, written: set[str]) -> None:
    old = [one_row(tmp_path, n, 100.0 + n, OTHER if n % 2 else FOLDER) for n in range(4)]
    for number, path in enumerate(old):
        age(path, 100.0 + number)
    written.clear()
    size = old[0].stat().st_size
    third = tmp_path / "0000000000000000" / "dense-fp32-v2"
    fill(ArrowStore(third, max_bytes=3.5 * size), 9)
    assert [path for path in old if path.exists()] == old[2:]
    assert len(files(third)) == 1


def test_what_this_process_wrote_stays_whatever_the_budget(tmp_path: Path, written: set[str]) -> None:
    foreign = one_row(tmp_path, 0, 100.0)
    written.clear()
    mine = [ArrowStore(tmp_path / folder, max_bytes=1) for folder in (FOLDER, OTHER)]
    for number in (1, 2):
        for store in mine:
            fill(store, number)
    assert not foreign.exists()
    assert len(files(tmp_path)) == 4


def test_a_reader_keeps_what_another_process_evicted(tmp_path: Path, written: set[str]) -> None:
    one_row(tmp_path, 1, 100.0)
    reader = ArrowStore(tmp_path / FOLDER)
    age(files(tmp_path)[0], 100.0)
    written.clear()
    fill(ArrowStore(tmp_path / OTHER, max_bytes=1), 2)
    assert files(tmp_path / FOLDER) == []
    assert same(reader.get(digests([1])), logits(1))


def test_a_hit_renews_the_last_use_of_its_file_alone_and_at_most_once_a_minute(tmp_path: Path) -> None:
    clock = Clock()
    paths = [one_row(tmp_path, number, 100.0) for number in (1, 2)]
    store = ArrowStore(tmp_path / FOLDER, clock=clock)
    assert [path.stat().st_mtime for path in paths] == [clock.now, clock.now]  # opened
    clock.now += 59
    store.get(digests([1]))
    assert paths[0].stat().st_mtime == clock.now - 59
    clock.now += 1
    store.get(digests([1]))
    assert [path.stat().st_mtime for path in paths] == [clock.now, clock.now - 60]


def test_no_file_but_those_of_signals_is_ever_evicted(tmp_path: Path) -> None:
    others = [tmp_path / "a" / "b" / "data.arrow", tmp_path / f"{'0' * 32}.arrow", tmp_path / "a" / "x.txt"]
    (tmp_path / "a" / "b").mkdir(parents=True)
    for path in others:
        path.write_bytes(bytes(1000))
    fill(ArrowStore(tmp_path / FOLDER, max_bytes=1), 1)
    assert all(path.exists() for path in others)


# By hand


def test_usage_says_what_there_is_by_teacher_and_spec(tmp_path: Path) -> None:
    for name, number in (("movies", 1), ("films", 2)):
        fill(ArrowStore(tmp_path / FOLDER, teacher=name), number, 7)
    one_row(tmp_path, 3, 50.0, OTHER)
    for path in files(tmp_path / FOLDER):
        age(path, 200.0)
    files(tmp_path / OTHER)[0].with_name(f"{'0' * 32}.arrow").write_bytes(b"torn")
    age(tmp_path / OTHER / f"{'0' * 32}.arrow", 60.0)
    first, second = usage(tmp_path)
    assert (first.teacher, first.spec) == FOLDER.parts
    assert (first.names, first.files, first.used) == (["films", "movies"], 2, 200.0)
    assert first.examples == 3  # the second store knew example 7 already
    assert first.nbytes == sum(path.stat().st_size for path in files(tmp_path / FOLDER))
    assert (second.names, second.examples, second.files, second.unreadable) == ([], 1, 2, 1)
    assert second.used == 60.0


def test_verify_lists_every_damaged_file_and_no_other(tmp_path: Path) -> None:
    paths = [one_row(tmp_path, number, 100.0) for number in range(3)]
    damage(paths[0], 0)
    paths[1].write_bytes(paths[1].read_bytes()[:-1])
    faults = {fault.file.path: fault for fault in verify(stored_files(tmp_path))}
    assert set(faults) == set(paths[:2])
    assert faults[paths[0]].problem == "1 of 1 rows are damaged"
    assert faults[paths[1]].problem.startswith("not a signal file")


def test_small_files_become_one_with_every_row_and_its_last_use(tmp_path: Path) -> None:
    for number in range(6):
        one_row(tmp_path, number, 100.0 + number)
    reader = ArrowStore(tmp_path / FOLDER)
    for number, path in enumerate(files(tmp_path)):
        age(path, 100.0 + number)
    done = clean(tmp_path)
    assert [len(group.files) for group in done.merged] == [6]
    (path,) = files(tmp_path)
    assert path.stat().st_mtime == 105.0
    for store in (reader, ArrowStore(tmp_path / FOLDER)):
        store.refresh()
        assert same(store.get(digests(range(6))), logits(*range(6)))
        assert len(store) == 6
    assert clean(tmp_path).merged == []


def test_a_merge_keeps_the_row_that_readers_got_before(tmp_path: Path) -> None:
    """Of two rows of one example the one in the first file by name, as in a store that is opened."""
    stores = [ArrowStore(tmp_path / FOLDER) for _ in range(4)]
    for number, store in enumerate(stores):
        store.put(digests([7]), logits(number))
        store.flush()
    before = ArrowStore(tmp_path / FOLDER).get(digests([7]))
    clean(tmp_path)
    assert before is not None
    assert same(ArrowStore(tmp_path / FOLDER).get(digests([7])), before)


def test_the_merged_file_is_there_before_the_small_ones_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that starts at any moment of a merge finds every row."""
    for number in range(4):
        one_row(tmp_path, number, 100.0)
    unlink, looks = Path.unlink, 0

    def look_then_unlink(path: Path, missing_ok: bool = False) -> None:
        nonlocal looks
        looks += 1
        assert ArrowStore(tmp_path / FOLDER).missing(digests(range(4))) == []
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", look_then_unlink)
    clean(tmp_path)
    assert looks == 4


def test_a_reader_whose_files_are_merged_while_it_opens_them_finds_every_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        one_row(tmp_path, number, 100.0)
    opened = []

    def merge_first(path: Path, *rest: object) -> object:
        opened.append(path)
        if len(opened) == 2:
            clean(tmp_path)
        return compact.Segment(path, *rest)

    monkeypatch.setattr(arrow, "Segment", merge_first)
    store = ArrowStore(tmp_path / FOLDER)
    assert same(store.get(digests(range(4))), logits(*range(4)))
    assert store.damaged == 0


def test_large_files_are_left_alone_and_groups_stay_below_the_limit(tmp_path: Path) -> None:
    for number in range(7):
        one_row(tmp_path, number, 100.0)
    stored = stored_files(tmp_path)
    size = stored[0].nbytes
    sizes = [len(group.files) for group in compact.groups(stored, (), limit=3 * size)]
    assert sizes == [3, 3]
    assert compact.groups(stored, (), limit=2 * size) == []


def test_a_merged_file_is_not_fetched_again_in_its_parts(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/shared"
    for number in range(3):
        fill(ArrowStore(tmp_path / "one" / FOLDER, url=url), number)
    clean(tmp_path / "one")
    store = ArrowStore(tmp_path / "one" / FOLDER, url=url)
    store.flush()
    assert (store.remote.fetched, store.remote.uploaded) == (0, 0)
    assert same(store.get(digests(range(3))), logits(*range(3)))


def test_the_good_rows_of_a_damaged_file_are_kept(tmp_path: Path) -> None:
    fill(ArrowStore(tmp_path / FOLDER), 1, 2, 3)
    (path,) = files(tmp_path)
    damage(path, 2)
    done = clean(tmp_path)
    assert [removal.reason for removal in done.removed] == ["damaged: 1 of 3 rows are damaged"]
    assert path not in files(tmp_path)
    store = ArrowStore(tmp_path / FOLDER)
    assert same(store.get(digests([3, 1])), logits(3, 1))
    assert store.missing(digests([2])) == [0]
    assert verify(stored_files(tmp_path)) == []


def test_the_row_of_another_file_stands_in_for_a_damaged_one(tmp_path: Path) -> None:
    """Two workers wrote the same example; the copy that is found first is damaged."""
    one, two = ArrowStore(tmp_path / FOLDER), ArrowStore(tmp_path / FOLDER)
    fill(one, 1)
    fill(two, 1)
    for damaged in files(tmp_path):
        content = damaged.read_bytes()
        damage(damaged, 1)
        store = ArrowStore(tmp_path / FOLDER)
        assert same(store.get(digests([1])), logits(1))
        damaged.write_bytes(content)


def test_leftovers_of_killed_writers_go_after_an_hour(tmp_path: Path) -> None:
    clock = Clock()
    one_row(tmp_path, 1, clock.now)
    for name, used in (("a", clock.now - HOUR_S), ("b", clock.now - HOUR_S + 1)):
        path = tmp_path / FOLDER / f".{'0' * 32}.arrow.{name}"
        path.write_bytes(b"half")
        age(path, used)
    done = clean(tmp_path, clock=clock)
    assert [(r.file.path.name[-1], r.reason) for r in done.removed] == [("a", "left by a killed writer")]
    assert sorted(path.name[-1] for path in (tmp_path / FOLDER).glob(".*")) == ["b"]


def test_a_spec_that_nobody_used_for_long_goes_as_a_whole(tmp_path: Path) -> None:
    clock = Clock()
    for number in (1, 2):
        one_row(tmp_path, number, clock.now - 1000 * number)
    one_row(tmp_path, 3, clock.now - 1000, OTHER)
    one_row(tmp_path, 4, clock.now - 5000, OTHER)
    age(files(tmp_path / OTHER)[0], clock.now - 2000)
    age(files(tmp_path / OTHER)[1], clock.now - 2000)
    done = clean(tmp_path, older_than_s=1500, clock=clock)
    assert {(r.file.folder, r.reason) for r in done.removed} == {(tmp_path / OTHER, "not used for long")}
    assert not (tmp_path / OTHER).parent.exists()
    assert ArrowStore(tmp_path / FOLDER).missing(digests([1, 2])) == []


def test_cleaning_goes_down_to_a_size_the_least_recently_used_first(tmp_path: Path) -> None:
    one_row(tmp_path, 1, 200.0)
    old = one_row(tmp_path, 2, 100.0, OTHER)
    done = clean(tmp_path, max_bytes=old.stat().st_size)
    assert [(r.file.path, r.reason) for r in done.removed] == [(old, "least recently used")]
    assert [path.parent for path in files(tmp_path)] == [tmp_path / FOLDER]


def test_a_plan_says_the_same_and_changes_nothing(tmp_path: Path) -> None:
    clock = Clock()
    for number in range(3):
        one_row(tmp_path, number, clock.now)
    bad = one_row(tmp_path, 9, clock.now, OTHER)
    damage(bad, 9)
    (tmp_path / FOLDER / f".{'0' * 32}.arrow.x").write_bytes(b"half")
    age(tmp_path / FOLDER / f".{'0' * 32}.arrow.x", 1.0)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    planned = clean(tmp_path, plan=True, clock=clock)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert len(planned.removed) == 2
    assert planned.nbytes == bad.stat().st_size + 4
    done = clean(tmp_path, clock=clock)
    assert (done.removed, done.merged) == (planned.removed, planned.merged)


def test_a_file_that_cannot_be_opened_is_a_fault_and_is_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its rights may be wrong and its content right."""
    path = one_row(tmp_path, 1, 100.0)
    one_row(tmp_path, 2, 100.0)
    opening = Path.open

    def refuse(self: Path, *args: object, **options: object) -> object:
        if self == path:
            raise PermissionError(13, "Permission denied")
        return opening(self, *args, **options)

    monkeypatch.setattr(Path, "open", refuse)
    (fault,) = verify(stored_files(tmp_path))
    assert (fault.problem, fault.damaged) == ("cannot be opened: Permission denied", False)
    with caplog.at_level(logging.CRITICAL):
        assert ArrowStore(tmp_path / FOLDER).missing(digests([1, 2])) == [0]
    clean(tmp_path)
    assert path in files(tmp_path)


def test_no_folder_of_signals_is_no_signals(tmp_path: Path) -> None:
    assert usage(tmp_path / "none") == []
    done = clean(tmp_path / "none", older_than_s=0, max_bytes=0)
    assert (done.removed, done.merged) == ([], [])


def test_a_full_disk_during_a_merge_removes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        one_row(tmp_path, number, 100.0)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(compact, "write_segment", full)
    with pytest.raises(OSError, match="No space left"):
        clean(tmp_path)
    assert ArrowStore(tmp_path / FOLDER).missing(digests(range(3))) == []
    with pytest.raises(StoreError):
        ArrowStore(files(tmp_path)[0])
