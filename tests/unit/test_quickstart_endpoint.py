"""What a quickstart serves is its own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from serve_apps.targets import check_name
from tutelage.cli.quickstart import _endpoint_name

pytestmark = pytest.mark.unit


def test_on_a_cluster_its_endpoint_has_a_name_that_nobody_has() -> None:
    """However long the job's name is; in a Ray of its own the job's name is enough."""
    job: Any = SimpleNamespace(loaded=SimpleNamespace(job=SimpleNamespace(name="a" * 63)))
    local: Any = SimpleNamespace(local=True)
    joined: Any = SimpleNamespace(local=False)
    assert _endpoint_name(job, local) == "a" * 63
    names = {check_name(_endpoint_name(job, joined)) for _ in range(20)}
    assert len(names) == 20
    assert all(name.startswith("a" * 40 + "-quickstart-") for name in names)
