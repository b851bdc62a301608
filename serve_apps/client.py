"""Asking an endpoint over HTTP, with the standard library alone."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from serve_apps.schemas import ErrorReply, ModelReply, PredictReply, ReadyReply
from tutelage.errors import ServeError


@dataclass(frozen=True)
class Endpoint:
    """A served name. Replies are checked against `serve_apps.schemas`."""

    url: str
    """Without a slash at the end."""
    name: str
    version: str
    variant: str

    @property
    def curl(self) -> str:
        """A line to try in a shell."""
        return (
            f"curl -s {self.url}/v1/predict -H 'content-type: application/json' "
            """-d '{"text": "a quiet little wonder of a film"}'"""
        )

    def ask(self, texts: Sequence[str], *, timeout_s: float = 30) -> PredictReply:
        """One prediction for each text.

        Raises:
            ServeError: no answer within `timeout_s`, or the endpoint's own refusal with its reason.
        """
        reply = _call(self.url, "POST", "/v1/predict", {"texts": list(texts)}, timeout_s)
        return PredictReply.model_validate(reply)

    def ready(self, *, timeout_s: float = 5) -> ReadyReply:
        """Which version answers now."""
        return ReadyReply.model_validate(_call(self.url, "GET", "/readyz", None, timeout_s))

    def model(self, *, timeout_s: float = 5) -> ModelReply:
        """Labels, length and lineage of the version that answers."""
        return ModelReply.model_validate(_call(self.url, "GET", "/v1/model", None, timeout_s))


@dataclass
class Answered:
    """What came of requests that went on in the background."""

    count: int = 0
    failed: int = 0
    versions: list[str] = field(default_factory=list)
    """In the order in which they first answered."""


@contextmanager
def asking(endpoint: Endpoint, texts: Sequence[str]) -> Iterator[Answered]:
    """Ask again and again while the body runs, one request after another."""
    found, ended = Answered(), threading.Event()

    def ask() -> None:
        while not ended.is_set():
            found.count += 1
            try:
                version = endpoint.ask(texts).version
            except ServeError:
                found.failed += 1
                continue
            if version not in found.versions:
                found.versions.append(version)

    thread = threading.Thread(target=ask, name="asking", daemon=True)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


def _call(url: str, method: str, path: str, body: Mapping[str, Any] | None, timeout_s: float) -> Any:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    data = None if body is None else json.dumps(body).encode()
    headers = {} if data is None else {"content-type": "application/json"}
    try:
        connection.request(method, parts.path + path, data, headers)
        response = connection.getresponse()
        raw, status = response.read(), response.status
    except (OSError, http.client.HTTPException) as error:
        raise ServeError(
            f"{url} does not answer: {error or type(error).__name__}",
            fix="check that `tutelage deploy` still runs and the address is right",
        ) from error
    finally:
        connection.close()
    if status == 200:
        return json.loads(raw)
    raise _refusal(url + path, status, raw)


def _refusal(url: str, status: int, raw: bytes) -> ServeError:
    try:
        error = ErrorReply.model_validate_json(raw).error
    except ValidationError:  # Serve's proxy answers in plain text while no replica is there
        text = " ".join(raw[:200].decode("utf-8", "replace").split())
        return ServeError(f"{url} answered {status}: {text}", fix="look at `serve status`")
    return ServeError(f"{url} answered {status} {error.code}: {error.message}", fix=error.fix)
