"""Before Serve's router: bodies read ahead, one more attempt, JSON for Serve's own words."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from serve_apps.body import HALF_CLOSED, Held, read_body
from serve_apps.front import Front
from serve_apps.replies import RefusedError

pytestmark = pytest.mark.unit

App = Callable[[Any, Any, Any], Awaitable[None]]


class Client:
    """One request as the server sees it, and what it was answered."""

    def __init__(self, method: str, path: str, parts: list[bytes], *, leaves: bool = False) -> None:
        self.scope = {"type": "http", "method": method, "path": path, "headers": []}
        self._parts, self._leaves = parts, leaves
        self.status, self.headers, self.body = 0, {}, b""

    async def receive(self) -> dict[str, Any]:
        if self._parts:
            return {"type": "http.request", "body": self._parts.pop(0), "more_body": bool(self._parts)}
        if not self._leaves:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            assert not self.status, "answered twice"
            self.status, self.headers = message["status"], dict(message["headers"])
        else:
            self.body += message["body"]

    def ask(self, app: App, **more: Any) -> Client:
        asyncio.run(asyncio.wait_for(Front(app, **more)(self.scope, self.receive, self.send), 10))
        return self

    @property
    def error(self) -> tuple[int, str]:
        return self.status, json.loads(self.body)["error"]["code"]


def predict(*parts: bytes, leaves: bool = False) -> Client:
    return Client("POST", "/films/v1/predict", list(parts), leaves=leaves)


def saying(status: int, body: bytes, **headers: str) -> App:
    """Serve's proxy: its own words, with these headers."""

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": pairs})
        await send({"type": "http.response.body", "body": body})

    return app


def test_a_body_is_whole_before_serve_sees_the_request() -> None:
    """Serve gives a slot of a replica to what it sees; parts come as one."""
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(await receive())
        await saying(200, b"{}", content_type="application/json")(scope, receive, send)

    assert predict(b'{"text"', b': "a"}').ask(app).status == 200
    assert seen == [{"type": "http.request", "body": b'{"text": "a"}', "more_body": False}]


def test_a_request_whose_replica_died_is_asked_once_more() -> None:
    """Serve ends without a reply; the second attempt gets the whole body again, with the route as it was."""
    bodies, paths = [], []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        bodies.append((await receive())["body"])
        paths.append(scope["path"])
        scope["path"] = "/v1/predict"
        if len(bodies) == 2:
            await saying(200, b"{}", content_type="application/json")(scope, receive, send)

    assert predict(b"ab", b"cd").ask(app).status == 200
    assert (bodies, paths) == ([b"abcd", b"abcd"], ["/films/v1/predict"] * 2)


def test_a_request_that_kills_every_replica_is_given_up() -> None:
    """Two attempts, then a 503 in JSON that says when to return."""
    attempts = []

    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        attempts.append(scope["path"])

    client = predict(b"{}").ask(app)
    assert (client.error, len(attempts), client.headers[b"retry-after"]) == ((503, "lost"), 2, b"1")


def test_a_client_that_left_is_not_asked_for_again() -> None:
    """Serve ends without a reply for a client that hung up too."""
    attempts = []

    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        attempts.append(await receive())
        await receive()

    assert predict(b"{}", leaves=True).ask(app).status == 0
    assert len(attempts) == 1


def test_another_applications_post_is_neither_read_ahead_nor_repeated() -> None:
    """It may stream, and may not be safe to repeat."""
    seen = []

    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        seen.append(await receive())

    assert Client("POST", "/other", [b"a", b"b"]).ask(app).error == (503, "lost")
    assert seen == [{"type": "http.request", "body": b"a", "more_body": True}]


@pytest.mark.parametrize(
    ("status", "code"), [(404, "not_found"), (408, "timeout"), (429, "overloaded"), (503, "overloaded")]
)
def test_serves_own_words_become_json(status: int, code: str) -> None:
    """The shape of every error, with Serve's sentence as the message, its id and its Retry-After."""
    app = saying(
        status,
        b"says Serve",
        content_type="text/plain; charset=utf-8",
        x_request_id="7",
        retry_after="2",
    )
    client = Client("GET", "/films/healthz", [b""]).ask(app)
    assert client.error == (status, code)
    assert json.loads(client.body)["error"]["message"] == "says Serve"
    assert (client.headers[b"x-request-id"], client.headers[b"retry-after"]) == (b"7", b"2")
    assert client.headers[b"content-type"] == b"application/json"


@pytest.mark.parametrize(
    ("path", "status", "headers"),
    [
        ("/-/healthz", 503, {"content_type": "text/plain"}),
        ("/other", 404, {"content_type": "text/plain", "content_length": "10"}),
        ("/other", 200, {"content_type": "text/plain"}),
        ("/v1/predict", 422, {"content_type": "application/json"}),
    ],
)
def test_the_words_of_others_stay_as_they_are(path: str, status: int, headers: dict[str, str]) -> None:
    """Replicas' replies, other applications' errors, and Serve's own health."""
    client = Client("GET", path, [b""]).ask(saying(status, b"as it was.", **headers))
    assert (client.status, client.body) == (status, b"as it was.")


def test_bodies_together_are_bounded_and_given_back() -> None:
    """What does not fit is a 503 at once; the room is free again when the request before is answered."""
    held = Held(10)
    with held.share() as take:
        take(6)
        with held.share() as other, pytest.raises(RefusedError, match="6 bytes are inside") as caught:
            other(5)
        assert (caught.value.status, held.now) == (503, 6)
    assert held.now == 0
    assert predict(b"12345678901").ask(saying(200, b""), held_bytes=10).error == (413, "too_large")


def test_a_body_that_drips_is_a_timeout_and_one_that_flows_is_not() -> None:
    """The time grows with what came: a byte now and then does not extend it, a megabyte does."""

    async def read(parts: list[bytes], pause_s: float) -> bytes:
        async def receive() -> Any:
            await asyncio.sleep(pause_s)
            return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

        return await read_body({"headers": []}, receive, 2**30, lambda _: None, body_s=0.15)

    with pytest.raises(RefusedError, match="bytes of the body came") as caught:
        asyncio.run(read([b"x"] * 1000, 0.01))
    assert (caught.value.status, caught.value.headers) == (408, {"connection": "close"})
    flowing = asyncio.run(read([b"x" * 2**20] * 4, 0.1))
    assert len(flowing) == 4 * 2**20


def test_a_half_closed_body_is_refused_at_once() -> None:
    """The client has ended its side within the body: what is missing never comes."""

    async def receive() -> Any:
        return {"type": "http.request", "body": b"ab", "more_body": True}

    scope = {"headers": [], "extensions": {HALF_CLOSED: {}}}
    with pytest.raises(RefusedError, match="closed after 2 bytes") as caught:
        asyncio.run(read_body(scope, receive, 100, lambda _: None))
    assert (caught.value.status, caught.value.code) == (400, "incomplete")
