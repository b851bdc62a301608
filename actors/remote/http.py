"""One server over HTTP: JSON in, JSON out, with bounds on time and size, retries, and no word of the key.

What is retried cannot change anything on the server: a question is a pure function of its text.
"""

from __future__ import annotations

import json
import os
import random
import re
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from tutelage.config.remote import OipRemote, OpenAIRemote
from tutelage.errors import ConfigError, RefusedError, TeacherError

RETRIED = (429, 502, 503, 504)
"""The server is there and will answer later; other codes would come again."""
CONNECT_S = 5.0
BACKOFF_S = 0.25
LONGEST_BACKOFF_S = 8.0


class Server:
    """A keep-alive connection to the server of one teacher."""

    def __init__(
        self,
        remote: OpenAIRemote | OipRemote,
        *,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Nothing is sent yet. Raises ConfigError when the variable of the key is not set here."""
        self.url = remote.url
        self.retried = 0
        self.bytes_received = 0
        self._remote = remote
        self._clock, self._sleep, self._chance = clock, sleep, chance
        self._end: float | None = None
        self._key = _key(remote.api_key_env)
        self._client = httpx.Client(
            transport=transport,
            headers={"authorization": f"Bearer {self._key}"} if self._key else {},
            # A proxy of the environment cannot reach this machine's own loopback.
            trust_env=not remote.loopback,
            follow_redirects=False,
            verify=True,
            limits=httpx.Limits(max_connections=4, max_keepalive_connections=4, keepalive_expiry=300),
        )
        self._closed = weakref.finalize(self, self._client.close)

    @contextmanager
    def question(self) -> Iterator[None]:
        """All calls of the body together have timeout_s."""
        self._end = self._clock() + self._remote.timeout_s
        try:
            yield
        finally:
            self._end = None

    def close(self) -> None:
        """Close the connections; they also close when nobody holds the server any more."""
        self._closed()

    def get(self, path: str) -> Any:
        """The JSON at a path; None where the body is empty. Raises as `post`."""
        return self._ask("GET", path, None)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The JSON that answers a JSON body.

        Raises:
            RefusedError: a status that is not retried, a redirect, too large an answer, or no JSON.
            TeacherError: no answer within timeout_s and the retries.
        """
        content = json.dumps(body, separators=(",", ":"), allow_nan=False).encode()
        return self._ask("POST", path, content)

    def _ask(self, method: str, path: str, content: bytes | None) -> Any:
        end = self._clock() + self._remote.timeout_s if self._end is None else self._end
        attempt = 0
        while True:
            attempt += 1
            try:
                status, headers, body = self._once(method, path, content, end)
            except httpx.RequestError as error:
                problem = f"{type(error).__name__}: {self._clean(str(error))}"
                headers = httpx.Headers()
            else:
                if status not in RETRIED:
                    return self._read(method, path, status, headers, body)
                problem = f"status {status}: {self._said(body)}"
            wait_s = self._wait_s(attempt, headers)
            left_s = end - self._clock()
            if attempt > self._remote.retries or wait_s >= left_s:
                raise TeacherError(
                    f"{method} {self.url}{path}: no answer in {attempt} attempts ({problem})"
                    + (
                        f"; it asks to wait {wait_s:.0f} s, and {max(0, left_s):.0f} s are left"
                        * _told(headers)
                    ),
                    fix="see that the server runs and can be reached from this node; remote.timeout_s and "
                    "remote.retries set the patience",
                )
            self.retried += 1
            self._sleep(wait_s)

    def _once(
        self, method: str, path: str, content: bytes | None, end: float
    ) -> tuple[int, httpx.Headers, bytes]:
        left_s = end - self._clock()
        if left_s <= 0:
            raise httpx.ReadTimeout("the time is used up")
        timeout = httpx.Timeout(left_s, connect=min(CONNECT_S, left_s))
        limit = int(self._remote.max_reply_mb * 1e6)
        headers = {"content-type": "application/json"} if content is not None else {}
        parts: list[bytes] = []
        size = 0
        with self._client.stream(
            method, self.url + path, content=content, headers=headers, timeout=timeout
        ) as answer:
            for part in answer.iter_bytes():
                size += len(part)
                self.bytes_received += len(part)
                if size > limit:
                    raise RefusedError(
                        f"{method} {self.url}{path}: the answer is larger than {limit / 1e6:g} MB",
                        fix="lower remote.batch, or raise remote.max_reply_mb",
                        status=answer.status_code,
                    )
                # The time-out of httpx is for each read: a server that drips could go on for ever.
                if self._clock() > end:
                    raise httpx.ReadTimeout("the answer came too slowly")
                parts.append(part)
            return answer.status_code, answer.headers, b"".join(parts)

    def _read(self, method: str, path: str, status: int, headers: httpx.Headers, body: bytes) -> Any:
        asked = f"{method} {self.url}{path}"
        if 300 <= status < 400:
            raise RefusedError(
                f"{asked} redirects to {self._clean(headers.get('location', '?'))}, which is not followed",
                fix="write that server into remote.url",
                status=status,
            )
        if not 200 <= status < 300:
            said = self._said(body)
            raise RefusedError(
                f"{asked}: status {status}: {said}", fix=_fix(status), status=status, said=said
            )
        if not body.strip():
            return None
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise RefusedError(
                f"{asked}: the answer is no JSON ({type(error).__name__}): {self._clean(_head(body))}",
                fix="check remote.url and remote.type",
                status=status,
            ) from None

    def _wait_s(self, attempt: int, headers: httpx.Headers) -> float:
        backoff_s = min(LONGEST_BACKOFF_S, BACKOFF_S * 2.0 ** (attempt - 1)) * (0.5 + self._chance() / 2)
        return max(backoff_s, _retry_after_s(headers))

    def _said(self, body: bytes) -> str:
        """The server's own words, from the error bodies that servers write."""
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            return self._clean(_head(body)) or "without a word"
        for key in ("error", "detail", "message", "object"):
            if isinstance(value, dict) and value.get(key):
                value = value[key]
                if key == "error" and isinstance(value, dict):
                    value = value.get("message", value)
                break
        return self._clean(value if isinstance(value, str) else json.dumps(value))

    def _clean(self, text: str) -> str:
        """One line of printable text without the key."""
        if self._key:
            text = text.replace(self._key, "***")
        text = " ".join(re.sub(r"[^\x20-\x7e]+", " ", text).split())
        return text if len(text) <= 400 else f"{text[:399]}…"


def _key(name: str | None) -> str | None:
    if name is None:
        return None
    key = os.environ.get(name, "").strip()
    if not key or not key.isascii() or not key.isprintable():
        what = "not set" if not key else "not one line of ASCII"
        raise ConfigError(
            f"remote.api_key_env: the environment variable {name} is {what} in this process",
            fix=f"export {name} where the command runs, and on the nodes of the cluster",
        )
    return key


def _retry_after_s(headers: httpx.Headers) -> float:
    """Seconds or a date, as RFC 9110 says; 0 when there is none that can be read."""
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}", value):
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _told(headers: httpx.Headers) -> bool:
    return _retry_after_s(headers) > 0


def _head(body: bytes) -> str:
    # Far more than is shown: a key at the end of what is shown must still be found whole.
    return body[:4000].decode("utf-8", "replace")


def _fix(status: int) -> str:
    match status:
        case 401 | 403:
            return "remote.api_key_env names the variable with the key; check that the key may use this model"
        case 404:
            return "check remote.url, remote.type and the teacher's model name"
        case 413:
            return "lower remote.batch"
        case 500:
            return "the server's own log names the cause"
        case _:
            return "the server's words say what it wants"
