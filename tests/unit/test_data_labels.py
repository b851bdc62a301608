"""From raw label values to indices."""

from __future__ import annotations

import pytest

from tutelage.data.labels import LabelMap, UnknownLabelError

pytestmark = pytest.mark.unit

SIGN = ["negative", "positive"]


@pytest.mark.parametrize(
    ("labels", "mapping", "raw", "index"),
    [
        (SIGN, {}, "positive", 1),
        (SIGN, {}, 1, 1),
        (SIGN, {}, "0", 0),
        (SIGN, {}, 1.0, 1),
        (SIGN, {}, None, -1),
        (SIGN, {}, "", -1),
        (SIGN, {}, float("nan"), -1),
        (SIGN, {"1": "negative", "2": "positive"}, 1, 0),
        (SIGN, {"1": "negative", "2": "positive"}, "2", 1),
        (SIGN, {"pos": "positive"}, "negative", 0),
        (SIGN, {"true": "positive", "false": "negative"}, True, 1),
        (["1", "2"], {}, 2, 1),
        (["1", "0"], {}, 0, 1),
    ],
)
def test_known_values(labels, mapping, raw, index):
    assert LabelMap("s", labels, mapping)(raw) == index


@pytest.mark.parametrize(
    ("labels", "mapping", "raw"),
    [
        (SIGN, {}, "Positive"),
        (SIGN, {}, 2),
        (SIGN, {}, -1),
        (SIGN, {}, 0.5),
        (SIGN, {}, "01"),
        (SIGN, {}, True),
        (SIGN, {"1": "positive"}, 0),
        (["1", "2"], {}, 0),
    ],
)
def test_values_that_could_mean_something_else_are_unknown(labels, mapping, raw):
    with pytest.raises(UnknownLabelError):
        LabelMap("s", labels, mapping)(raw)
