"""Durations, numbers, sparklines and tables as people read them."""

from __future__ import annotations

import pytest

from tutelage.cli import text

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "0.0 s"),
        (0, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (125, "2 min 05 s"),
        (3599.7, "1 h 00 min"),
        (3720, "1 h 02 min"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert text.duration(seconds) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.0, "0.000"),
        (0.12345, "0.123"),
        (3e-5, "3.0e-05"),
        (12.34, "12.3"),
        (12345.6, "12,346"),
        (7, "7"),
        (1200, "1,200"),
        ("a", "a"),
    ],
)
def test_numbers(value: float | str, words: str) -> None:
    assert text.number(value) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [(812, "812 B"), (1400, "1.4 kB"), (22_700_000, "22.7 MB"), (2e9, "2.0 GB"), (3e12, "3.0 TB")],
)
def test_sizes(count: float, words: str) -> None:
    assert text.size(count) == words


def test_a_sparkline_is_high_where_the_value_is_high() -> None:
    assert text.sparkline([1, 2, 3, 4, 5, 6, 7, 8]) == "▁▂▃▄▅▆▇█"
    assert text.sparkline([3, 3, 3]) == "▁▁▁"
    assert text.sparkline([]) == ""
    assert len(text.sparkline(list(range(1000)), width=20)) == 20


def test_figures_align_below_each_other_and_those_without_room_are_left_out() -> None:
    one = text.figures({"loss": 0.5, "accuracy": 0.25})
    two = text.figures({"loss": 1234.5, "accuracy": 0.75})
    assert one.index("accuracy") == two.index("accuracy") == 17
    assert text.figures({"loss": 0.5, "accuracy": 0.25}, room=20) == "loss 0.500"
    wide = text.figures({"examples_a_second": 12.0, "loss": 0.5})
    assert wide.index("loss") == 34  # the column after the next


def test_wide_characters_count_twice() -> None:
    assert text.cells("日本") == 4
    assert text.clip("日本語", 5) == "日本…"
    assert text.pad("日", 4) == "日  "
    rows = text.table(["a", "b"], [["日本", "x"], ["ab", "y"]])
    assert rows == ["a     b", "日本  x", "ab    y"]


def test_a_table_says_yes_no_and_a_dash_for_nothing() -> None:
    assert text.table(["a", "b"], [[True, None], [False, 1.5]]) == ["a        b", "yes      -", "no   1.500"]


def test_a_table_without_rows_is_its_header() -> None:
    assert text.table(["name", "size"], []) == ["name  size"]
