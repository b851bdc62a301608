"""Numbers as text, scales and smoothing."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tutelage.report import numbers
from tutelage.report.plot_curves import smooth, thin
from tutelage.report.svg import Canvas, spread, tick_text, ticks

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"), (0.42, "0.42 s"), (6.2, "6.2 s"), (59.94, "59.9 s"), (59.97, "1 min 00 s"),
        (318.4, "5 min 18 s"), (3599.6, "1 h 00 min"), (3720.0, "1 h 02 min"),
    ],
)  # fmt: skip
def test_durations_carry_into_the_next_unit(value: float | None, text: str):
    """No 60 s and no 60 min."""
    assert numbers.duration(value).replace("\u202f", " ") == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"), (0, "0"), (1.4, "1.40"), (12.94, "12.9"), (1234.5, "1,234"), (0.0384, "0.0384"),
        (9.999, "10.00"), (-2.5, "−2.50"), (4.2e-6, "4.2 × 10⁻⁶"), (1e-5, "1 × 10⁻⁵"), (2.5e7, "2.5 × 10⁷"),
    ],
)  # fmt: skip
def test_significant_digits(value: float | None, text: str):
    """Three digits, whole digits kept, powers of ten only at the ends."""
    assert numbers.significant(value).replace("\u2009", " ") == text


def test_a_column_has_common_decimals():
    """The smallest number decides, zero and dashes do not."""
    assert numbers.column([9.8, 1.44, None, 0.0, 12.91]) == ["9.8", "1.4", "–", "0.0", "12.9"]
    assert numbers.column([100.2, 702.0]) == ["100", "702"]
    assert numbers.column([None, 0.0]) == ["–", "0"]


def test_percent_and_points():
    """A difference has a sign, a negative zero has none."""
    assert (numbers.percent(0.8472), numbers.percent(None)) == ("84.7", "–")
    assert (numbers.points(0.051), numbers.points(-0.02), numbers.points(-0.0001)) == ("+5.1", "−2.0", "0.0")


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 0.91), (58.2, 91.8), (0.0, 1e-7), (3.0, 3.0), (-5.0, 12000.0)]
)
def test_ticks_enclose_the_values_evenly(low: float, high: float):
    """Ticks stand evenly and from below the lowest to above the highest value."""
    found = ticks(low, high)
    steps = {round((b - a) / (found[1] - found[0]), 6) for a, b in pairwise(found)}
    assert steps == {1.0}
    assert found[0] <= low <= high <= found[-1]
    assert len(found) <= 8


def test_tick_texts_have_the_decimals_of_their_step():
    """0.05 apart needs two decimals, 20 apart none."""
    assert [tick_text(0.1, 0.05), tick_text(40, 20), tick_text(0.4, 0.2)] == ["0.10", "40", "0.4"]


def test_labels_are_moved_apart_in_order():
    """Labels keep their order, their distance and the panel."""
    placed = spread([50, 51, 10, 99], 15, 0, 100)
    assert placed[2] < placed[0] < placed[1] < placed[3] <= 100
    assert min(b - a for a, b in pairwise(sorted(placed))) >= 15


def test_smoothing_keeps_a_constant_and_a_slope():
    """A constant stays, a straight line stays away from its ends, a gap stays a gap and does not count."""
    assert [v for _, v in smooth([(float(s), 2.0) for s in range(9)])] == pytest.approx([2.0] * 9)
    line = smooth([(float(s), 3.0 * s) for s in range(100)])
    assert line[50][1] == pytest.approx(150.0)
    assert [v for _, v in smooth([(0.0, 1.0), (1.0, None), (2.0, 1.0)])] == [1.0, None, 1.0]


def test_thinning_keeps_the_mean_and_the_end():
    """Groups of neighbours become their mean; the last step stays the last."""
    thinned = thin([(float(s), float(s % 2)) for s in range(1000)], 100)
    assert len(thinned) == 100
    assert {v for _, v in thinned} == {0.5}
    assert thinned[-1][0] == 999.0
    assert thin([(0.0, 1.0)], 100) == [(0.0, 1.0)]
    assert thin([(float(s), None) for s in range(10)], 5)[0][1] is None


def test_a_broken_line_lifts_the_pen():
    """A missing value splits the path; a lone point is a dash of one pixel."""
    canvas = Canvas(10, 10, key="k", title="t", description="d")
    canvas.polyline([(0, 0), (1, 1), None, (3, 3)], "curve")
    assert 'd="M0,0L1,1M3,3h1"' in canvas.markup()


def test_every_text_of_a_drawing_is_escaped():
    """Titles, labels, tooltips, classes and descriptions are escaped."""
    bad = '<b a="1">&'
    canvas = Canvas(10, 10, key="k", title=bad, description=bad)
    canvas.text(0, 0, bad, bad)
    canvas.circle(0, 0, 1, bad, bad)
    assert "<b" not in canvas.markup()
    assert 'a="1"' not in canvas.markup()
