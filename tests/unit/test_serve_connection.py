"""One connection to the proxy, on a wire in memory: deadline of the head, half-closed clients, bad HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from serve_apps.body import HALF_CLOSED
from serve_apps.connection import Connection, install

pytestmark = pytest.mark.unit

HEAD = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\n"


class Wire(asyncio.Transport):
    """A transport that keeps what was written."""

    def __init__(self) -> None:
        super().__init__()
        self.sent, self.closed = b"", asyncio.Event()

    def write(self, data: Any) -> None:
        self.sent += data

    def close(self) -> None:
        self.closed.set()

    def is_closing(self) -> bool:
        return self.closed.is_set()

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    @property
    def error(self) -> tuple[str, str]:
        head, body = self.sent.split(b"\r\n\r\n", 1)
        return head.split(b"\r\n")[0].decode(), json.loads(body)["error"]["code"]


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the body, and with what is known of the client's side."""
    message = await receive()
    while message.get("more_body") and HALF_CLOSED not in scope.get("extensions", {}):
        message = await receive()
    text = b"half" if message.get("more_body") else b"whole"
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(text))]}
    )
    await send({"type": "http.response.body", "body": text})


def on_a_wire(body: Callable[[Connection, Wire], Awaitable[None]], head_s: float = 30) -> None:
    async def run() -> None:
        config = uvicorn.Config(echo, lifespan="off", log_config=None)
        connection, wire = Connection(config, ServerState(), {}), Wire()
        connection.head_s = head_s
        connection.connection_made(wire)
        await asyncio.wait_for(body(connection, wire), 10)
        connection.connection_lost(None)

    asyncio.run(run())


@pytest.mark.parametrize("sent", [b"", b"G", b"GET / HTTP/1.1\r\nhost: x\r\nx-long: "])
def test_a_head_that_does_not_end_is_a_timeout(sent: bytes) -> None:
    """Silence or a dripping head: 408 in JSON and the end of the connection."""

    async def body(connection: Connection, wire: Wire) -> None:
        if sent:
            connection.data_received(sent)
        await wire.closed.wait()
        assert wire.error == ("HTTP/1.1 408 Request Timeout", "timeout")

    on_a_wire(body, head_s=0.05)


def test_a_request_that_came_in_time_is_not_cut_and_the_next_has_its_own_time() -> None:
    """The deadline ends with the head; between requests the server's keep-alive time counts."""

    async def body(connection: Connection, wire: Wire) -> None:
        connection.data_received(HEAD)
        await asyncio.sleep(0.2)
        connection.data_received(b"abcd")
        await asyncio.sleep(0.2)
        assert wire.sent.endswith(b"whole")
        assert not wire.is_closing()
        connection.data_received(b"POST")
        await wire.closed.wait()
        assert b"408" in wire.sent

    on_a_wire(body, head_s=0.1)


def test_a_client_that_ended_its_side_gets_its_answer() -> None:
    """After the whole request an end of the client's side is no hang-up; the reply ends the connection."""

    async def body(connection: Connection, wire: Wire) -> None:
        connection.data_received(HEAD + b"abcd")
        assert connection.eof_received()
        await wire.closed.wait()
        assert wire.sent.endswith(b"whole")

    on_a_wire(body)


def test_an_app_hears_that_the_rest_of_a_body_never_comes() -> None:
    """Half a body and the end of the client's side: the scope says so, and the reply still goes out."""

    async def body(connection: Connection, wire: Wire) -> None:
        connection.data_received(HEAD + b"ab")
        await asyncio.sleep(0)
        assert connection.eof_received()
        await wire.closed.wait()
        assert wire.sent.endswith(b"half")

    on_a_wire(body)


def test_an_end_between_requests_closes() -> None:
    """A client that leaves without a request in the air is let go."""

    async def body(connection: Connection, _wire: Wire) -> None:
        assert not connection.eof_received()

    on_a_wire(body)


def test_what_is_not_http_is_answered_in_json() -> None:
    """uvicorn's own word for it is plain text."""

    async def body(connection: Connection, wire: Wire) -> None:
        connection.data_received(b"hello\r\n\r\n")
        assert wire.error == ("HTTP/1.1 400 Bad Request", "invalid_http")
        assert wire.is_closing()

    on_a_wire(body)


def test_the_servers_of_this_process_make_such_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Serve configures uvicorn without a protocol, and takes what `auto` names."""
    monkeypatch.setattr(uvicorn.config, "HTTP_PROTOCOLS", dict(uvicorn.config.HTTP_PROTOCOLS))
    install()
    config = uvicorn.Config(echo, lifespan="off", log_config=None)
    config.load()
    assert config.http_protocol_class is Connection
