"""Servers without a socket: a completions server and a V2 server as functions, for `httpx.MockTransport`.

Shapes: N examples, T tokens, V vocabulary, C classes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from actors.remote.http import Server
from actors.teacher import TeacherSpec
from tutelage.config.remote import OipRemote, OpenAIRemote
from tutelage.config.task import CausalLM, SequenceClassification
from tutelage.signals.exchange import Request, batch_digest
from tutelage.signals.spec import PayloadSpec

URL = "http://127.0.0.1:8999"
MODEL = "owner/tiny"
LABELS = ["negative", "positive", "other"]
Change = Callable[[dict[str, Any]], Any]


def log_p(prefix: list[int], width: int) -> NDArray[np.float64]:
    """The next token's log-probabilities [V]: a function of the tokens so far."""
    seed = int.from_bytes(blake3(json.dumps(prefix).encode()).digest(4), "big")
    logits_V = np.random.default_rng(seed).normal(size=width) * 3
    return logits_V - np.log(np.exp(logits_V).sum())


@dataclass
class Completions:
    """A server with the completions API; `dialect` says which of its fields it knows."""

    width: int
    text_of: Callable[[int], str]
    dialect: str = "prompt"
    """prompt (vLLM), ids (echo with token ids), text (echo with texts), none (llama.cpp)."""
    limit: int = 20
    change: Change = lambda answer: answer
    asked: list[dict[str, Any]] = field(default_factory=list)
    models: list[dict[str, Any]] = field(
        default_factory=lambda: [{"id": MODEL, "root": "/models/tiny", "max_model_len": 64}]
    )

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/models":
            stamped = [{**model, "created": len(self.asked)} for model in self.models]
            return httpx.Response(200, json={"object": "list", "data": stamped})
        body = json.loads(request.content)
        self.asked.append(body)
        k = body.get("prompt_logprobs") if self.dialect == "prompt" else body.get("logprobs")
        if (k or 0) > self.limit:
            said = f"Requested prompt logprobs of {k}, which is greater than max allowed: {self.limit}"
            return httpx.Response(400, json={"error": {"message": said, "type": "BadRequestError"}})
        choices = [self._choice(index, ids, k, body) for index, ids in enumerate(body["prompt"])]
        return _json(self.change({"model": MODEL, "choices": choices}))

    def _choice(self, index: int, ids: list[int], k: int | None, body: dict[str, Any]) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": index, "text": "x", "logprobs": None}
        if k is None or (self.dialect != "prompt" and not body.get("echo")):
            return choice
        rows = [None, *(self._row(ids, q, k) for q in range(1, len(ids)))]
        if self.dialect == "prompt":
            choice["prompt_token_ids"] = ids
            choice["prompt_logprobs"] = [
                None
                if row is None
                else {
                    str(i): {"logprob": p, "rank": n + 1, "decoded_token": self.text_of(i)}
                    for n, (i, p) in enumerate(row.items())
                }
                for row in rows
            ]
            return choice
        if self.dialect == "none":
            return {**choice, "logprobs": {"tokens": ["x"], "top_logprobs": [{"x": -1.0}]}}
        name = (lambda i: f"token_id:{i}") if self.dialect == "ids" else self.text_of
        choice["logprobs"] = {
            "tokens": [name(i) for i in ids] + ["x"],
            "token_logprobs": [None, *(rows[q][ids[q]] for q in range(1, len(ids))), -1.0],
            "top_logprobs": [row and {name(i): p for i, p in row.items()} for row in rows] + [{"x": -1.0}],
        }
        return choice

    def _row(self, ids: list[int], q: int, k: int) -> dict[int, float]:
        """As vLLM does: the token that stands there first, then the k most probable."""
        log_p_V = log_p(ids[:q], self.width)
        best = np.argsort(-log_p_V)[:k]
        return {int(i): float(log_p_V[i]) for i in [ids[q], *best]}


@dataclass
class V2:
    """A server with the Open Inference Protocol. A row of logits is a function of the text or the tokens."""

    inputs: list[dict[str, Any]] = field(
        default_factory=lambda: [{"name": "text", "datatype": "BYTES", "shape": [-1, 1]}]
    )
    probabilities: bool = False
    change: Change = lambda answer: answer
    asked: list[dict[str, Any]] = field(default_factory=list)
    ready: bool = True
    paths: list[str] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        self.paths.append(path)
        if path == "/v2/health/ready":
            return httpx.Response(200 if self.ready else 503)
        if path == "/v2/repository/index":
            return httpx.Response(200, json=[{"name": "sentiment"}, {"name": "topics"}])
        if not path.startswith("/v2/models/sentiment"):
            return httpx.Response(404, json={"error": "unknown model"})
        if not path.endswith("/infer"):
            outputs = [{"name": "logits", "datatype": "FP32", "shape": [-1, 3]}]
            told = {"name": "sentiment", "versions": ["1"], "platform": "onnxruntime_onnx"}
            return httpx.Response(200, json={**told, "inputs": self.inputs, "outputs": outputs})
        body = json.loads(request.content)
        self.asked.append(body)
        rows_NC = np.array([row(key) for key in self._keys(body["inputs"])])
        if self.probabilities:
            rows_NC = np.exp(rows_NC) / np.exp(rows_NC).sum(1, keepdims=True)
        output = {
            "name": "logits",
            "datatype": "FP32",
            "shape": list(rows_NC.shape),
            "data": rows_NC.ravel().tolist(),
        }
        answer = {"model_name": "sentiment", "model_version": "1", "id": body["id"], "outputs": [output]}
        return _json(self.change(answer))

    def _keys(self, inputs: list[dict[str, Any]]) -> list[str]:
        if inputs[0]["datatype"] == "BYTES":
            return list(inputs[0]["data"])
        by_name = {one["name"]: np.array(one["data"]).reshape(one["shape"]) for one in inputs}
        masks = by_name["attention_mask"]
        return [str(ids[mask == 1].tolist()) for ids, mask in zip(by_name["input_ids"], masks, strict=True)]


def _json(answer: Any) -> httpx.Response:
    """NaN and Infinity are written as Python and many servers write them."""
    return httpx.Response(200, content=json.dumps(answer).encode())


def row(key: str) -> list[float]:
    """Three logits of the server, in its own order of classes."""
    number = int.from_bytes(blake3(key.encode()).digest(2), "big")
    return [number / 10000, -number / 20000, 0.5]


def openai_spec(tokenizer: str, **remote: Any) -> TeacherSpec:
    """A causal-lm teacher behind a completions server."""
    return TeacherSpec(
        name="big",
        model=MODEL,
        tokenizer=tokenizer,
        label_order=(),
        max_tokens=32,
        threads=1,
        fingerprint="",
        task=CausalLM(type="causal-lm"),
        remote=OpenAIRemote(type="openai", url=URL, **remote),
    )


def oip_spec(tokenizer: str = "", **remote: Any) -> TeacherSpec:
    """A classifier behind a V2 server whose classes stand in another order."""
    return TeacherSpec(
        name="judge",
        model="sentiment",
        tokenizer=tokenizer,
        label_order=(2, 0, 1),
        max_tokens=32,
        threads=1,
        fingerprint="",
        task=SequenceClassification(labels=LABELS),
        remote=OipRemote(type="oip", url=URL, **remote),
    )


def ids_request(ids: list[list[int]], spec: PayloadSpec, positions: list[int] | None = None) -> Request:
    """A causal-lm request."""
    digests = [blake3(json.dumps(one).encode()).digest(length=16) for one in ids]
    counts = [max(0, len(one) - 1) for one in ids] if positions is None else positions
    return Request(
        batch_digest(digests),
        digests,
        np.array(counts, np.int32),
        spec,
        ids=[np.array(one, np.int32) for one in ids],
    )


def texts_request(texts: list[str], spec: PayloadSpec) -> Request:
    """A sequence-classification request."""
    digests = [blake3(text.encode()).digest(length=16) for text in texts]
    return Request(batch_digest(digests), digests, np.ones(len(texts), np.int32), spec, texts=texts)


def byte_tokenizer_in(folder: Path) -> str:
    """A tokenizer folder: each byte is a token, behind four special ones."""
    from tutelage.testing.models import byte_tokenizer

    byte_tokenizer().save_pretrained(folder)
    return str(folder)


def word_tokenizer_in(folder: Path) -> str:
    """A tokenizer folder: each of 60 words is a token."""
    from tutelage.testing.classification import word_tokenizer

    word_tokenizer([f"word{n}" for n in range(60)]).save_pretrained(folder)
    return str(folder)


class Time:
    """A clock that moves by sleeping alone."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def server(
    answer: Callable[[httpx.Request], httpx.Response], time: Time | None = None, **remote: Any
) -> Server:
    """A client of a server without a socket; jitter is at its largest."""
    time = time or Time()
    return Server(
        OpenAIRemote(**{"type": "openai", "url": URL, **remote}),
        transport=httpx.MockTransport(answer),
        clock=time.clock,
        sleep=time.sleep,
        chance=lambda: 1.0,
    )
