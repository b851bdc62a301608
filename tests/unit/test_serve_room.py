"""How many replicas fit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_apps.room import fitting, sized
from tutelage.config.runtime import ServeConfig

pytestmark = pytest.mark.unit


@given(free=st.floats(0, 1000), each=st.floats(0.01, 64))
def test_two_replicas_only_where_two_more_can_replace_them(free: float, each: float) -> None:
    """A second replica never takes the room that a new version needs to start beside the old one."""
    assert fitting(free, each) == (2 if free >= 4 * each else 1)


def test_a_number_that_was_given_is_kept() -> None:
    """No cluster is asked."""
    assert sized(ServeConfig(replicas=3), 0).replicas == 3
