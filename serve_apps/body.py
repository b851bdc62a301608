"""Reading the body of a request: within a time, a size, and a bound on all bodies together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

from serve_apps.replies import LAST, RETRY, RefusedError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

BODY_S = 10.0
"""Time for a body; each BYTES_A_SECOND that have come add a second."""
BYTES_A_SECOND = 64 * 1024
HALF_CLOSED = "tutelage.half_closed"
"""The key in a scope's extensions that says: the client will send nothing more."""


class Held:
    """Bytes of the bodies that one process holds, those of all its requests together."""

    def __init__(self, most: int) -> None:
        self.most, self.now = most, 0

    @contextmanager
    def share(self) -> Iterator[Callable[[int], None]]:
        """One request's part: gives `take(bytes)`, which raises RefusedError (503) when there is no room."""
        own = 0

        def take(count: int) -> None:
            nonlocal own
            if self.now + count > self.most:
                raise RefusedError(503, f"requests of {self.now} bytes are inside", headers=RETRY)
            self.now += count
            own += count

        try:
            yield take
        finally:
            self.now -= own


async def read_body(
    scope: Scope, receive: Receive, limit: int, take: Callable[[int], None], body_s: float = BODY_S
) -> bytes:
    """The whole body.

    Raises:
        RefusedError: 413 above `limit` bytes, 408 after the time, 400 when the client ends before the body
            does, 503 when `take` has no room.
    """
    length = dict(scope["headers"]).get(b"content-length", b"0")
    if not length.isdigit() or int(length) > limit:
        raise RefusedError(413, f"the body is larger than {limit} bytes")
    body = bytearray()
    loop = asyncio.get_running_loop()
    start = loop.time()
    while True:
        try:
            async with asyncio.timeout_at(start + body_s + len(body) / BYTES_A_SECOND):
                message = await receive()
        except TimeoutError:
            problem = f"{len(body)} bytes of the body came in {loop.time() - start:.0f} s, and then no more"
            raise RefusedError(408, problem, fix="send the whole request at once", headers=LAST) from None
        part = message.get("body", b"")
        if len(body) + len(part) > limit:
            raise RefusedError(413, f"the body is larger than {limit} bytes")
        take(len(part))
        body += part
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            return bytes(body)
        if HALF_CLOSED in scope.get("extensions", {}):
            problem = f"the connection was closed after {len(body)} bytes of the body"
            raise RefusedError(400, problem, code="incomplete", fix="send the whole body first", headers=LAST)


def replayed(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body that was read already, then what comes after it."""
    told = False

    async def replay() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
