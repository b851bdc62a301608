"""The HTTP app in-process: routes, limits, every refusal, and the version in each reply."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from serve_apps.app import build_app
from serve_apps.schemas import ErrorReply, Prediction, VersionRef
from tutelage.config.runtime import MOST_BODY_BYTES, ServeConfig

pytestmark = pytest.mark.unit

CONFIG = ServeConfig(max_texts=3, max_chars=20, max_batch=1, max_queued=1)
VERSION = VersionRef(name="films", id="abc123", lineage={"run": "films-7"})
JSON = {"content-type": "application/json"}


async def by_length(texts: list[str]) -> list[Prediction]:
    """The twin of a model: long texts are positive."""
    scores = [min(len(text), 20) / 20 for text in texts]
    return [Prediction(label="positive", score=s, scores={"positive": s, "negative": 1 - s}) for s in scores]


def app(answer: Callable[[list[str]], Awaitable[list[Prediction]]] = by_length) -> Any:
    return build_app(answer, VERSION, labels=["negative", "positive"], max_tokens=8, config=CONFIG)


def ask(method: str, path: str, *, on: Any = None, **more: Any) -> httpx.Response:
    async def call() -> httpx.Response:
        transport = httpx.ASGITransport(app=on or app(), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, **more)

    return asyncio.run(call())


def post(body: bytes, **headers: str) -> httpx.Response:
    return ask("POST", "/v1/predict", content=body, headers={**JSON, **headers})


def test_one_text_or_several() -> None:
    """Both forms give one prediction a text, in order, with model, version and variant."""
    one = post(b'{"text": "abcde"}').json()
    assert one["predictions"] == [
        {
            "label": "positive",
            "score": 0.25,
            "scores": {"positive": 0.25, "negative": 0.75},
            "truncated": False,
        }
    ]
    assert (one["model"], one["version"], one["variant"]) == ("films", "abc123", "int8")
    assert one["latency_ms"] >= 0
    several = post(b'{"texts": ["ab", "abcdefghij"]}').json()
    assert [p["score"] for p in several["predictions"]] == [0.1, 0.5]


def test_health_readiness_and_the_models_card() -> None:
    """Three GET routes, each without a body to send."""
    assert ask("GET", "/healthz").json() == {"status": "ok"}
    assert ask("GET", "/readyz").json() == {
        "ready": True,
        "model": "films",
        "version": "abc123",
        "variant": "int8",
    }
    assert ask("GET", "/v1/model").json() == {
        "model": "films",
        "version": "abc123",
        "variant": "int8",
        "answers_with": "int8",
        "labels": ["negative", "positive"],
        "max_tokens": 8,
        "lineage": {"run": "films-7"},
    }


REFUSED = [
    (b"{bad", 400, "invalid_json", "not JSON"),
    (b"", 422, "invalid_request", "body: "),
    (b'{"text": "\xff"}', 400, "invalid_json", ""),
    (b"[1]", 422, "invalid_request", "body: "),
    (b"null", 422, "invalid_request", "body: "),
    (b"{}", 422, "invalid_request", "give either 'text' or 'texts'"),
    (b'{"text": "a", "texts": ["b"]}', 422, "invalid_request", "give either"),
    (b'{"text": null}', 422, "invalid_request", "give either"),
    (b'{"text": ""}', 422, "invalid_request", "text: the text is empty"),
    (b'{"text": " \\n\\t\\u00a0"}', 422, "invalid_request", "text: the text is empty"),
    (b'{"text": 5}', 422, "invalid_request", "text: "),
    (b'{"text": ["a"]}', 422, "invalid_request", "text: "),
    (b'{"text": "\\ud800"}', 422, "invalid_request", "text: "),
    (b'{"texts": "a"}', 422, "invalid_request", "texts: "),
    (b'{"texts": []}', 422, "invalid_request", "texts: "),
    (b'{"texts": ["a", " "]}', 422, "invalid_request", "texts.1: the text is empty"),
    (b'{"texts": ["a", 1]}', 422, "invalid_request", "texts.1: "),
    (b'{"text": "a", "temperature": 2}', 422, "invalid_request", "temperature: "),
    (b'{"texts": ["a", "b", "c", "d"]}', 413, "too_large", "4 texts; one request may carry 3"),
    (b'{"text": "' + b"a" * 21 + b'"}', 413, "too_large", "21 characters; one may have 20"),
    (b'{"text": "' + b"a" * 5000 + b'"}', 413, "too_large", "larger than"),
]


@pytest.mark.parametrize(("body", "status", "code", "says"), REFUSED)
def test_bad_bodies_are_refused_with_a_reason(body: bytes, status: int, code: str, says: str) -> None:
    """Status, code, what is wrong and what to do: one shape for all."""
    reply = post(body)
    error = ErrorReply.model_validate_json(reply.content).error
    assert (reply.status_code, error.code) == (status, code)
    assert says in error.message
    assert error.fix
    assert reply.headers["x-tutelage-version"] == "abc123"


OTHERWISE = [
    ('{"text": "a"}'.encode("utf-16"), {}, 400, "invalid_json"),
    ('{"text": "a"}'.encode("utf-16-le"), {}, 400, "invalid_json"),
    ('{"text": "a"}'.encode("utf-32-be"), {}, 400, "invalid_json"),
    (b'{"text": "a"}', {"content-type": "application/json; charset=utf-16"}, 415, "unsupported_media_type"),
    (b'{"text": "a"}', {"content-type": 'application/json;charset="latin1"'}, 415, "unsupported_media_type"),
    (gzip.compress(b'{"text": "a"}'), {"content-encoding": "gzip"}, 415, "unsupported_media_type"),
    (b'{"text": "a"}', {"content-encoding": "br"}, 415, "unsupported_media_type"),
    (gzip.compress(b'{"text": "a"}'), {}, 400, "invalid_json"),
]


@pytest.mark.parametrize(("body", "headers", "status", "code"), OTHERWISE)
def test_another_encoding_is_refused_as_what_it_is(
    body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    """UTF-16 and compressed bodies are named, never guessed at."""
    reply = post(body, **headers)
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize(
    "headers", [{"content-encoding": "identity"}, {"content-type": "application/json; charset=UTF-8"}]
)
def test_what_says_that_it_is_plain_utf8_passes(headers: dict[str, str]) -> None:
    """Said or not, with a mark of UTF-8 or without."""
    assert post(b'{"text": "a"}', **headers).status_code == 200
    assert post(b'\xef\xbb\xbf{"text": "a"}', **headers).status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/v1/model", "/openapi.json", "/nowhere"])
def test_head_is_get_without_its_body(path: str) -> None:
    """Load balancers ask with HEAD."""
    head, get = ask("HEAD", path), ask("GET", path)
    assert (head.status_code, head.headers["content-length"]) == (
        get.status_code,
        get.headers["content-length"],
    )
    assert head.content == b""


def test_bodies_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second large body finds no room while the first is computed: 503, and room again afterwards."""
    monkeypatch.setattr("serve_apps.guard.HELD_BYTES", 0)
    one = app()
    one._held.now = 1000
    full = json.dumps({"texts": ["\u4f60" * 20] * 3}).encode().ljust(CONFIG.body_bytes, b" ")
    reply = ask("POST", "/v1/predict", on=one, content=full, headers=JSON)
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
    one._held.now = 0
    assert ask("POST", "/v1/predict", on=one, content=full, headers=JSON).status_code == 200
    assert one._held.now == 0


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_not_finite_is_no_answer(score: float) -> None:
    """JSON has no such numbers: a model that gives one has failed, and says so with a 500."""

    async def broken(texts: list[str]) -> list[Prediction]:
        return [Prediction(label="a", score=score, scores={"a": score}) for _ in texts]

    reply = ask("POST", "/v1/predict", on=app(broken), content=b'{"text": "a"}', headers=JSON)
    assert (reply.status_code, reply.json()["error"]["code"]) == (500, "internal")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/predict", 405, "method_not_allowed"),
        ("POST", "/healthz", 405, "method_not_allowed"),
        ("GET", "/v1/predictions", 404, "not_found"),
        ("GET", "/docs", 404, "not_found"),
        ("GET", "/", 404, "not_found"),
    ],
)
def test_wrong_paths_and_methods(method: str, path: str, status: int, code: str) -> None:
    """404 and 405 have the shape of every other error; there is no /docs: it would load foreign scripts."""
    reply = ask(method, path)
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)
    assert reply.headers["x-tutelage-version"] == "abc123"


def test_the_schema_is_published_and_names_no_foreign_host() -> None:
    """/openapi.json describes the routes."""
    reply = ask("GET", "/openapi.json")
    assert set(reply.json()["paths"]) == {"/healthz", "/readyz", "/v1/model", "/v1/predict"}
    assert "https://" not in reply.text


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_other_content_types_are_refused(kind: str) -> None:
    """A web page of another site can send these without asking; JSON it cannot."""
    reply = ask(
        "POST", "/v1/predict", content=b'{"text": "a"}', headers={"content-type": kind} if kind else {}
    )
    assert reply.status_code == 415
    assert reply.json()["error"]["fix"] == "send -H 'content-type: application/json'"


def test_a_content_type_may_have_parameters() -> None:
    """`application/json; charset=utf-8` is JSON."""
    assert post(b'{"text": "a"}', **{"content-type": "Application/JSON; charset=utf-8"}).status_code == 200


def test_the_largest_request_within_the_limits_passes() -> None:
    """Three texts of twenty characters, each escaped as `\\uXXXX`, are below the limit for bodies."""
    body = json.dumps({"texts": ["\u4f60" * 20] * 3}).encode()
    assert b"\\u4f60" in body
    assert len(body) < CONFIG.body_bytes
    assert post(body).status_code == 200


@given(texts=st.integers(1, 10**8), chars=st.integers(1, 10**8))
def test_limits_that_no_request_can_reach_are_refused(texts: int, chars: int) -> None:
    """What the job lets in fits what the proxy holds, and the advice of the refusal is within the limit."""
    if texts * (chars * 6 + 8) + 1024 <= MOST_BODY_BYTES:
        assert ServeConfig(max_texts=texts, max_chars=chars).body_bytes <= MOST_BODY_BYTES
        return
    with pytest.raises(ValidationError, match="use ") as refused:
        ServeConfig(max_texts=texts, max_chars=chars)
    if advice := re.search(r"use max_chars (\d+) or less", str(refused.value)):
        assert ServeConfig(max_texts=texts, max_chars=int(advice[1])).max_texts == texts


def test_a_body_without_a_length_is_counted_as_it_comes() -> None:
    """Chunks are refused once they pass the limit, and no more of them is read."""
    sent = 0

    async def chunks() -> Any:
        nonlocal sent
        for _ in range(1000):
            sent += 1
            yield b"a" * 1000

    async def call() -> list[Any]:
        said: list[Any] = []
        source = chunks()

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": await anext(source), "more_body": True}

        async def send(message: Any) -> None:
            said.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/predict",
            "headers": [(b"content-type", b"application/json")],
        }
        await app()(scope, receive, send)
        return said

    said = asyncio.run(call())
    assert said[0]["status"] == 413
    assert sent == CONFIG.body_bytes // 1000 + 1


def test_a_wrong_content_length_is_refused() -> None:
    """A length that is no number is not trusted."""
    assert post(b'{"text": "a"}', **{"content-length": "many"}).status_code == 413


def test_overload_is_a_503_that_says_when_to_return() -> None:
    """max_queued + max_batch requests are inside; the next one is refused at once, and later ones pass."""

    async def run() -> None:
        gate, full, count = asyncio.Event(), asyncio.Event(), 0

        async def slow(texts: list[str]) -> list[Prediction]:
            nonlocal count
            count += 1
            if count == 2:
                full.set()
            await gate.wait()
            return await by_length(texts)

        transport = httpx.ASGITransport(app=app(slow))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:

            def call() -> Any:
                return client.post("/v1/predict", json={"text": "abcd"})

            inside = [asyncio.create_task(call()) for _ in range(2)]
            await full.wait()
            refused = await call()
            assert refused.status_code == 503
            assert refused.headers["retry-after"] == "1"
            assert refused.json()["error"]["code"] == "overloaded"
            gate.set()
            assert [reply.status_code for reply in await asyncio.gather(*inside)] == [200, 200]
            assert (await call()).status_code == 200

    asyncio.run(run())


def test_a_crash_is_a_500_that_tells_no_secrets() -> None:
    """The reply names the kind of the error and nothing of its text; the room it took is free again."""

    async def crash(texts: list[str]) -> list[Prediction]:
        raise RuntimeError("password=hunter2")

    broken = app(crash)
    for _ in range(4):
        reply = ask("POST", "/v1/predict", on=broken, content=b'{"text": "a"}', headers=JSON)
        assert reply.status_code == 500
        assert reply.json()["error"]["code"] == "internal"
        assert "hunter2" not in reply.text


def test_deep_nesting_is_refused_and_does_not_crash() -> None:
    """A hundred thousand brackets are beyond Python's stack; the reply is a 400."""
    roomy = build_app(by_length, VERSION, labels=["a", "b"], max_tokens=8, config=ServeConfig())
    body = b"[" * 100_000 + b"]" * 100_000
    reply = ask("POST", "/v1/predict", on=roomy, content=body, headers=JSON)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_json")
