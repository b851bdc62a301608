"""The HTTP face of one version: routes, limits and errors, as a FastAPI app around an `answer` function."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from serve_apps.guard import Guard
from serve_apps.replies import RETRY, RefusedError, error_reply
from serve_apps.schemas import (
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

_REFUSALS: Any = {code: {"model": ErrorReply} for code in (400, 408, 413, 415, 422, 500, 503)}


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

    @app.post("/v1/predict", responses=_REFUSALS)
    async def predict(body: PredictRequest) -> PredictReply:
        nonlocal busy
        started = time.perf_counter()
        texts = body.all()
        _check_limits(texts, config)
        if busy >= room:
            raise HTTPException(503, f"{busy} requests are waiting", headers=RETRY)
        busy += 1
        try:
            predictions = await answer(texts)
        finally:
            busy -= 1
        latency_ms = (time.perf_counter() - started) * 1000
        return PredictReply(predictions=predictions, latency_ms=round(latency_ms, 3), **names)

    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RefusedError, _on_refused)
    app.add_exception_handler(Exception, _on_crash)
    return Guard(app, version.id, config.body_bytes)


def _check_limits(texts: list[str], config: ServeConfig) -> None:
    if len(texts) > config.max_texts:
        raise HTTPException(413, f"{len(texts)} texts; one request may carry {config.max_texts}")
    longest = max(map(len, texts))
    if longest > config.max_chars:
        raise HTTPException(413, f"a text of {longest} characters; one may have {config.max_chars}")


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


async def _on_refused(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RefusedError)
    return error.reply()


async def _on_crash(_request: Request, error: Exception) -> JSONResponse:
    return error_reply(500, f"the request could not be answered ({type(error).__name__})")
