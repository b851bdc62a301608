"""Errors as every client reads them: one JSON shape, whoever refuses."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi.responses import JSONResponse

from serve_apps.schemas import ErrorBody, ErrorReply

EXAMPLE = '{"text": "..."} or {"texts": ["...", "..."]}'
VERSION_HEADER = "x-tutelage-version"
RETRY = {"Retry-After": "1"}
LAST = {"connection": "close"}
"""For a reply to a request of which more may be on its way."""

_FIXES = {
    400: f"send {EXAMPLE} as UTF-8 JSON",
    404: "see /openapi.json for the routes",
    405: "see /openapi.json for the methods",
    408: "ask for fewer texts in one request, or raise serve.replicas",
    413: "send less in one request",
    415: "send -H 'content-type: application/json'",
    422: f"send {EXAMPLE}, each text with at least one character that is not white space",
    500: "the server's log names the cause",
    503: "ask again after the time in Retry-After; raise serve.replicas if it stays",
}
_CODES = {
    400: "invalid_json",
    404: "not_found",
    405: "method_not_allowed",
    408: "timeout",
    413: "too_large",
    415: "unsupported_media_type",
    422: "invalid_request",
    429: "overloaded",
    500: "internal",
    503: "overloaded",
}


class RefusedError(Exception):
    """A request that is answered with an error before it is understood."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str = "",
        fix: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.fix, self.headers = status, code, fix, headers

    def reply(self) -> JSONResponse:
        """What the client reads."""
        return error_reply(self.status, str(self), code=self.code, fix=self.fix, headers=self.headers)


def error_reply(
    status: int, message: str, *, code: str = "", fix: str = "", headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """An error as every client reads it."""
    body = ErrorBody(
        code=code or _CODES.get(status, "error"),
        message=message,
        fix=fix or _FIXES.get(status, _FIXES[500]),
    )
    return JSONResponse(ErrorReply(error=body).model_dump(), status, dict(headers or {}))
