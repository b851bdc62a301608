"""The HTTP face of one version: routes, limits and errors, as a FastAPI app around an `answer` function."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from serve_apps.schemas import (
    ErrorBody,
    ErrorReply,
    ModelReply,
    Prediction,
    PredictReply,
    PredictRequest,
    ReadyReply,
    VersionRef,
)
from tutelage.config.runtime import ServeConfig

Answer = Callable[[list[str]], Awaitable[list[Prediction]]]

EXAMPLE = '{"text": "..."} or {"texts": ["...", "..."]}'
VERSION_HEADER = "x-tutelage-version"

_FIXES = {
    400: f"send {EXAMPLE} as UTF-8 JSON",
    404: "see /openapi.json for the routes",
    405: "see /openapi.json for the methods",
    415: "send -H 'content-type: application/json'",
    422: f"send {EXAMPLE}, each text with at least one character that is not white space",
    500: "the server's log names the cause",
    503: "ask again after the time in Retry-After; raise serve.replicas if it stays",
}
_CODES = {
    400: "invalid_json",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "unsupported_media_type",
    422: "invalid_request",
    500: "internal",
    503: "overloaded",
}


def body_limit(config: ServeConfig) -> int:
    """Bytes of the largest request within the limits: JSON may write one character as 6 (or 12 for two)."""
    return config.max_texts * (config.max_chars * 6 + 8) + 1024


def build_app(
    answer: Answer,
    version: VersionRef,
    *,
    labels: list[str],
    max_tokens: int,
    config: ServeConfig,
    answers_with: str | None = None,
) -> Any:
    """The ASGI app. `answer` gives one prediction for each text and may batch several calls.

    `answers_with` is the file that answers, where it is not that of `config.variant`.
    """
    app = FastAPI(
        title=f"tutelage endpoint {version.name}", version=version.id, docs_url=None, redoc_url=None
    )
    names = {"model": version.name, "version": version.id, "variant": config.variant}
    room = config.max_queued + config.max_batch
    busy = 0

    # Not `def` routes: those would wait for a thread of the pool that the model computes in.
    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz() -> ReadyReply:
        return ReadyReply(ready=True, **names)

    @app.get("/v1/model")
    async def model() -> ModelReply:
        return ModelReply(
            **names,
            answers_with=answers_with or config.variant,
            labels=labels,
            max_tokens=max_tokens,
            lineage=version.lineage,
        )

    @app.post("/v1/predict", responses={code: {"model": ErrorReply} for code in (400, 413, 415, 422, 503)})
    async def predict(body: PredictRequest) -> PredictReply:
        nonlocal busy
        started = time.perf_counter()
        texts = body.all()
        _check_limits(texts, config)
        if busy >= room:
            raise HTTPException(503, f"{busy} requests are waiting", headers={"Retry-After": "1"})
        busy += 1
        try:
            predictions = await answer(texts)
        finally:
            busy -= 1
        latency_ms = (time.perf_counter() - started) * 1000
        return PredictReply(predictions=predictions, latency_ms=round(latency_ms, 3), **names)

    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_crash)
    return Guard(app, version.id, body_limit(config))


def _check_limits(texts: list[str], config: ServeConfig) -> None:
    if len(texts) > config.max_texts:
        raise HTTPException(413, f"{len(texts)} texts; one request may carry {config.max_texts}")
    longest = max(map(len, texts))
    if longest > config.max_chars:
        raise HTTPException(413, f"a text of {longest} characters; one may have {config.max_chars}")


def error_reply(
    status: int, message: str, *, code: str = "", fix: str = "", headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """An error as every client reads it."""
    body = ErrorBody(
        code=code or _CODES.get(status, "error"),
        message=message,
        fix=fix or _FIXES.get(status, "send less in one request" if status == 413 else ""),
    )
    return JSONResponse(ErrorReply(error=body).model_dump(), status, dict(headers or {}))


async def _on_invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return error_reply(400, f"the body is not JSON: {first.get('ctx', {}).get('error', first['msg'])}")
    where = ".".join(str(part) for part in first["loc"][1:]) or "body"
    problem = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "string_pattern_mismatch":
        problem = "the text is empty"
    return error_reply(422, f"{where}: {problem}")


async def _on_http(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return error_reply(error.status_code, str(error.detail), headers=error.headers)


async def _on_crash(_request: Request, error: Exception) -> JSONResponse:
    return error_reply(500, f"the request could not be answered ({type(error).__name__})")


Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Guard:
    """Refuses what need not be parsed, and names the version in every reply.

    The body is read here, at most `limit` bytes of it: a longer one is a 413 before any of it is parsed.
    """

    def __init__(self, app: Any, version: str, limit: int) -> None:
        self.app, self.limit = app, limit
        self._version = (VERSION_HEADER.encode(), version.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), self._version]
            await send(message)

        if scope["method"] == "POST" and scope["path"].endswith("/v1/predict"):
            headers = dict(scope["headers"])
            body = await self._body(headers, receive)
            if isinstance(body, JSONResponse):
                await body(scope, receive, named)
                return
            receive = _replay(body, receive)
        await self.app(scope, receive, named)

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes | JSONResponse:
        kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
        if kind != b"application/json":
            return error_reply(415, f"content-type is '{kind.decode('latin-1')}', not application/json")
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self.limit:
            return self._too_large()
        body = bytearray()
        while True:
            message = await receive()
            body += message.get("body", b"")
            if len(body) > self.limit:
                return self._too_large()
            if message["type"] == "http.disconnect" or not message.get("more_body"):
                return bytes(body)

    def _too_large(self) -> JSONResponse:
        return error_reply(413, f"the body is larger than {self.limit} bytes")


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body that was read already, then what comes after it."""
    told = False

    async def replayed() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed
