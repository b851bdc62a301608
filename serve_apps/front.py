"""What stands before Serve's router, in the process of its proxy.

Serve hands a request to a replica before its body has come, and keeps a slot of the replica for it; it
answers in plain text for itself; and a request whose replica dies under it is lost. So here the body is
read first, Serve's own words become JSON, and a request that found no reply is asked once more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.middleware import Middleware

from serve_apps.body import Held, Message, Receive, Scope, Send, read_body, replayed
from serve_apps.replies import RETRY, RefusedError, error_reply
from tutelage.config.runtime import MOST_BODY_BYTES

ATTEMPTS = 2
"""A request that kills its replica may kill one more, and no third."""

ENVIRONMENT: Mapping[str, str] = {
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serve_apps.front:middlewares",
    # A killed proxy is replaced after three failed checks: 30 s with Serve's own period of 10 s.
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
}
"""For Serve's controller; its proxies inherit it."""


def middlewares() -> list[Middleware]:
    """Called by Serve's proxy before it opens its port."""
    from serve_apps import connection

    connection.install()
    return [Middleware(Front)]


class Front:
    """ASGI around Serve's proxy.

    Only `/v1/predict` is read ahead and asked again: other applications of the cluster may stream.
    """

    def __init__(self, app: Any, held_bytes: int = MOST_BODY_BYTES) -> None:
        self.app = app
        self._held = Held(held_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or "/-/" in scope["path"]:
            await self.app(scope, receive, send)
        elif scope["method"] == "POST" and scope["path"].endswith("/v1/predict"):
            await self._predict(scope, receive, send)
        else:
            await self._ask(scope, receive, send)

    async def _predict(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._held.share() as take:
            try:
                body = await read_body(scope, receive, self._held.most, take)
            except RefusedError as refused:
                await refused.reply()(scope, receive, send)
                return
            await self._ask(scope, receive, send, body)

    async def _ask(self, scope: Scope, receive: Receive, send: Send, body: bytes | None = None) -> None:
        attempts = 1 if body is None and scope["method"] not in ("GET", "HEAD") else ATTEMPTS
        gone = False

        async def heard() -> Message:
            nonlocal gone
            message = await receive()
            gone = gone or message["type"] == "http.disconnect"
            return message

        for _ in range(attempts):
            translated = Translated(scope, receive, send)
            # A copy: the router writes the application's route into it.
            await self.app(dict(scope), heard if body is None else replayed(body, heard), translated)
            if translated.started or gone:
                return
        lost = error_reply(503, "the replica that had this request is gone", code="lost", headers=RETRY)
        await lost(scope, receive, send)


class Translated:
    """A `send` that turns Serve's own plain text into the errors that every client reads.

    Serve's own replies are known by their type and by giving no length, which a replica's always do.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.started = False
        self._asgi = (scope, receive, send)
        self._start: Message | None = None

    async def __call__(self, message: Message) -> None:
        self.started = True
        if self._start is not None:
            text = bytes(message.get("body", b"")).decode("utf-8", "replace")
            headers = {
                name.decode(): value.decode()
                for name, value in self._start["headers"]
                if name.lower() in (b"retry-after", b"x-request-id")
            }
            await error_reply(self._start["status"], text, headers=headers)(*self._asgi)
            self._start = None
        elif message["type"] == "http.response.start" and _own_words(message):
            self._start = message
        else:
            await self._asgi[2](message)


def _own_words(start: Message) -> bool:
    headers = {bytes(name).lower(): bytes(value) for name, value in start.get("headers", ())}
    plain = headers.get(b"content-type", b"").startswith(b"text/plain")
    return start["status"] >= 400 and plain and b"content-length" not in headers
