"""Where a replica's port for the proxy listens."""

from __future__ import annotations

from typing import Any

import pytest

from serve_apps.private_port import on_one_address

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("address", "wanted", "found"),
    [
        ("127.0.0.1", "[::]:0", "127.0.0.1:0"),
        ("fd00::1", "[::]:0", "[fd00::1]:0"),
        ("10.0.0.7", "10.0.0.9:80", "10.0.0.9:80"),
    ],
)
def test_what_would_listen_everywhere_listens_on_the_node(address: str, wanted: str, found: str) -> None:
    """`[::]` becomes the node's address; a place that names one is kept."""
    seen = []

    def bind(server: Any, place: str) -> int:
        seen.append((server, place))
        return 7

    assert on_one_address(bind, address)("server", wanted) == 7
    assert seen == [("server", found)]
