"""What an update says of the version that it made."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tutelage.cli.update_order import Candidate

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("passed", "command"),
    [(True, "tutelage deploy films:aa"), (False, "tutelage models show films:aa")],
)
def test_a_version_that_the_gate_stopped_is_not_said_to_be_deployed_next(passed: bool, command: str) -> None:
    """It is kept to be looked at; what answers goes on."""
    version: Any = SimpleNamespace(ref="films:aa")
    verdict: Any = SimpleNamespace(passed=passed)
    nothing: Any = None
    assert Candidate(version, nothing, verdict, 1.0, [], []).next_command == command
