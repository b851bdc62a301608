"""A client's connection to Serve's proxy: a deadline for the head, half-closed clients, JSON for bad HTTP.

uvicorn, which the proxy runs, waits for a head without limit and drops a client that has ended its own
side (`printf ... | nc -N`) before it was answered.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

import uvicorn.config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serve_apps.body import HALF_CLOSED
from serve_apps.replies import error_reply

HEAD_S = 10.0
"""Time from the first byte of a request (or the connection) to the end of its head."""


class Connection(HttpToolsProtocol):
    """One connection. Between requests uvicorn's own keep-alive time counts."""

    head_s = HEAD_S
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._idle and self._late is None:
            self._await_head()
        super().data_received(data)

    def on_headers_complete(self) -> None:
        self._head_came()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._head_came()
        super().on_message_complete()

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio reads the answer, uvicorn gives none
        """True keeps the connection for the answer; then it is closed."""
        if self._idle:
            return False
        self.cycle.keep_alive = False
        if self.cycle.more_body:
            scope: Any = self.cycle.scope
            scope["extensions"] = {**scope.get("extensions", {}), HALF_CLOSED: {}}
            self.cycle.message_event.set()
        return True

    def send_400_response(self, msg: str) -> None:
        self._end(400, msg)

    @property
    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _await_head(self) -> None:
        self._late = self.loop.call_later(self.head_s, self._too_late)

    def _head_came(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _too_late(self) -> None:
        self._late = None
        if not self.transport.is_closing():
            self._end(408, f"no whole request came in {self.head_s:g} s")

    def _end(self, status: int, message: str) -> None:
        code = "invalid_http" if status == 400 else ""
        reply = error_reply(status, message, code=code, fix="send one whole HTTP/1.1 request at once")
        head = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", "connection: close"]
        head += [f"{name.decode()}: {value.decode()}" for name, value in reply.raw_headers]
        self.transport.write("\r\n".join([*head, "", ""]).encode() + bytes(reply.body))
        self.transport.close()


def install() -> None:
    """Let every uvicorn server that this process starts hereafter make its connections of this kind."""
    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{Connection.__name__}"
