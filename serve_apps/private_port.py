"""The port of a replica that Serve's proxy calls: on the node's own address, and not on all of them.

Serve opens it on `[::]`, without authentication, and unpickles what comes there. The proxy calls it by the
node's address, which is 127.0.0.1 for an in-process Ray.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Bind = Callable[[Any, str], int]
ALL = "[::]"


def on_one_address(bind: Bind, address: str) -> Bind:
    """As `bind`, but what would listen on every address listens on this one."""
    host = f"[{address}]" if ":" in address else address

    def bound(server: Any, place: str) -> int:
        return bind(server, host + place.removeprefix(ALL) if place.startswith(ALL) else place)

    return bound


def keep_private() -> None:
    """Called in a replica's constructor: Serve binds the port when the replica is made."""
    import ray
    from ray.serve._private import replica

    module: Any = replica
    node_address: Any = ray.util.get_node_ip_address  # Ray leaves it unannotated
    address = str(node_address())
    module.add_port_to_grpc_server = on_one_address(module.add_port_to_grpc_server, address)
