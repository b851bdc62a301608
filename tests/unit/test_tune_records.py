"""The book of a search: every trial is read back whole, whatever was killed."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tune_spaces.search.records import Book, Record, front

pytestmark = pytest.mark.unit


def report(step: int, accuracy: float, progress: float, **more: Any) -> dict[str, Any]:
    return {
        "status": "ran",
        "step": step,
        "accuracy": accuracy,
        "loss": 1 - accuracy,
        "progress": progress,
        **more,
    }


def book(path: Path) -> Book:
    ticks = count()
    return Book(path, clock=lambda: float(next(ticks)))


def filled(path: Path) -> Book:
    found = book(path)
    found.start()
    found.asked({"one": 3}, {"one": 90})
    for name, accuracy in (("a", 0.7), ("b", 0.8), ("c", 0.9)):
        found.begin(name, {"lr": accuracy}, {"latency_ms": 10 * accuracy})
        found.report(name, report(5, accuracy - 0.1, 50))
    found.report("a", report(10, 0.7, 100))
    found.report("b", report(10, 0.8, 100))
    for name in "abc":
        found.end(name)
    return found


def test_a_book_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    one = filled(path)
    other = Book(path)
    assert other.records == one.records
    assert (other.calls, other.texts, other.seconds) == ({"one": 3}, {"one": 90}, one.seconds)
    assert [record.status for record in other.records.values()] == ["done", "done", "stopped"]
    assert not other.closed


def test_the_best_is_a_trial_that_ran_and_a_line_that_was_cut_short_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    filled(path)
    path.write_text(path.read_text() + '{"event": "report", "tri')
    other = Book(path)
    assert other.lost == 1
    assert [record.id for record in other.ranked("accuracy")] == ["b", "c", "a"]
    assert [record.id for record in other.ranked("loss")] == ["b", "c", "a"]


def test_a_report_that_is_made_again_replaces_the_first(tmp_path: Path) -> None:
    found = book(tmp_path / "trials.jsonl")
    found.begin("a", {}, {})
    for step in (5, 10, 15):
        found.report("a", report(step, 0.5, step))
    found.begin("a", {}, {})  # killed, and gone on from step 5
    found.report("a", report(10, 0.6, 10))
    assert [(point["step"], point["accuracy"]) for point in found.records["a"].curve] == [(5, 0.5), (10, 0.6)]
    assert found.records["a"].number == 1


def test_a_failed_trial_has_a_reason_and_no_value(tmp_path: Path) -> None:
    found = book(tmp_path / "trials.jsonl")
    for name, result in (
        ("a", {"status": "failed", "error": "loss is nan"}),
        ("b", {"status": "out-of-memory"}),
    ):
        found.begin(name, {}, {})
        found.report(name, report(5, 0.9, 50))
        found.report(name, {**result, "accuracy": 0.0})
        found.end(name)
    assert [(r.status, r.error, r.value("accuracy")) for r in found.records.values()] == [
        ("failed", "loss is nan", None),
        ("out-of-memory", "", None),
    ]
    assert found.ranked("accuracy") == []


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ("The actor died: it was killed by the memory monitor due to memory pressure", "out-of-memory"),
        ("CUDA out of memory. Tried to allocate 2 GiB", "out-of-memory"),
        ("DefaultCPUAllocator: can't allocate memory", "out-of-memory"),
        ("The actor died unexpectedly", "failed"),
    ],
)
def test_a_process_that_dies_says_how(tmp_path: Path, error: str, status: str) -> None:
    found = book(tmp_path / "trials.jsonl")
    found.begin("a", {}, {})
    found.end("a", error)
    assert (found.records["a"].status, found.records["a"].error) == (status, error)


def test_the_time_of_a_search_is_that_of_its_starts(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    first = Book(path, clock=iter([10.0, 14.0]).__next__)
    first.start()
    first.begin("a", {}, {})
    second = Book(path, clock=iter([100.0, 101.5, 103.0]).__next__)
    second.start()
    second.drop("a")
    second.close([({"lr": 1}, "too large")], ["a note"])
    assert second.seconds == 4.0 + 3.0
    again = Book(path)
    assert (again.records, again.closed, again.refused, again.notes) == (
        {},
        True,
        [({"lr": 1}, "too large")],
        ["a note"],
    )


def record(name: str, accuracy: float, latency_ms: float, status: str = "done") -> Record:
    return Record(name, 1, {}, {"latency_ms": latency_ms}, status, [report(1, accuracy, 100)])


def test_the_front_holds_what_nobody_beats_in_everything() -> None:
    trials = [
        record("slow", 0.9, 9.0),
        record("fast", 0.7, 1.0),
        record("middle", 0.8, 4.0),
        record("beaten", 0.79, 4.0),
        record("twin", 0.8, 4.0),
        record("halfway", 0.99, 0.5, "stopped"),
    ]
    assert [r.id for r in front(trials, ["accuracy", "latency_ms"])] == ["slow", "middle", "twin", "fast"]
    assert [r.id for r in front(trials, ["accuracy"])] == ["slow"]
