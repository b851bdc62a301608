"""Around the replica's app: refuses what need not be parsed, and names the version in every reply."""

from __future__ import annotations

import re
from typing import Any

from serve_apps.body import Held, Message, Receive, Scope, Send, read_body, replayed
from serve_apps.replies import VERSION_HEADER, RefusedError

HELD_BYTES = 32 * 2**20
"""Bytes of bodies that a replica holds, all requests together; one legal request always fits."""
_CHARSET = re.compile(rb"charset\s*=\s*\"?([^\s;\"]+)", re.IGNORECASE)


class Guard:
    """Reads a body before the app sees any of it: at most `limit` bytes, in UTF-8, in time.

    HEAD is answered as GET without its body.
    """

    def __init__(self, app: Any, version: str, limit: int) -> None:
        self.app, self.limit = app, limit
        self._held = Held(max(HELD_BYTES, limit))
        self._version = (VERSION_HEADER.encode(), version.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        head = scope["method"] == "HEAD"

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), self._version]
            elif head:
                message = {**message, "body": b""}
            await send(message)

        if head:
            scope = {**scope, "method": "GET"}
        if scope["method"] != "POST" or not scope["path"].endswith("/v1/predict"):
            await self.app(scope, receive, named)
            return
        with self._held.share() as take:
            try:
                _check_headers(dict(scope["headers"]))
                body = await read_body(scope, receive, self.limit, take)
                _check_utf8(body)
            except RefusedError as refused:
                await refused.reply()(scope, receive, named)
                return
            await self.app(scope, replayed(body, receive), named)


def _check_headers(headers: dict[bytes, bytes]) -> None:
    content = headers.get(b"content-type", b"")
    kind = content.split(b";")[0].strip().lower().decode("latin-1")
    if kind != "application/json":
        raise RefusedError(415, f"content-type is '{kind}', not application/json")
    charset = _CHARSET.search(content)
    if charset and charset[1].lower() not in (b"utf-8", b"utf8", b"us-ascii"):
        raise RefusedError(415, f"charset is '{charset[1].decode('latin-1')}', not utf-8", fix="send UTF-8")
    encoding = headers.get(b"content-encoding", b"identity").strip().lower().decode("latin-1")
    if encoding not in ("identity", ""):
        raise RefusedError(415, f"content-encoding is '{encoding}'", fix="send the body uncompressed")


def _check_utf8(body: bytes) -> None:
    """Python's JSON reader would take UTF-16 and UTF-32 too, by their zeros; JSON text holds none."""
    if body.startswith((b"\xff\xfe", b"\xfe\xff")) or 0 in body:
        raise RefusedError(400, "the body is not JSON: it is not UTF-8 (zeros, or the mark of UTF-16)")
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise RefusedError(400, f"the body is not JSON: byte {error.start} is not UTF-8") from None
