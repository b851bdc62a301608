"""Bytes and microseconds a token of top-k from a completions server, and of the packet that travels on.

`python -m benchmarks.remote [--tokens 256] [--texts 8] [--repeats 5] [--json]`. The server is a process on
loopback that sends an answer it has written before, so its own time is that of the transfer alone; the client
reads, checks and packs as a replica does. Both share the machine that is printed. The last column is what a
packet costs the student's side: pickled, read back and decoded to tensors.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import pickle
import platform
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from actors.remote.http import Server
from actors.remote.openai import OpenAIModel
from tutelage.config.remote import OpenAIRemote
from tutelage.signals.exchange import Request, batch_digest
from tutelage.signals.payloads import decode, fault
from tutelage.signals.spec import PayloadSpec

VOCABULARY = 151_936
ENTRIES = (20, 64)
DIALECTS = ("prompt", "echo")


@dataclass(frozen=True)
class Row:
    """One measurement."""

    dialect: str
    k: int
    json_bytes_a_token: float
    packet_bytes_a_token: float
    client_us_a_token: float
    student_us_a_token: float


class Words:
    """Stands for a tokenizer: words of the length that real ones have."""

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": [len(word) for word in text.split()]}

    def decode(self, ids: list[int], **_: Any) -> str:
        return f" w{ids[0]}"


def answer(body: dict[str, Any]) -> bytes:
    """What a server would say: numbers as fp32 written in full, the token itself among the entries."""
    rng = np.random.default_rng(0)
    echo = "logprobs" in body
    k = body["logprobs" if echo else "prompt_logprobs"]
    choices = []
    for index, ids in enumerate(body["prompt"]):
        rows: list[Any] = [None]
        for token in ids[1:]:
            best = rng.integers(0, VOCABULARY, 2 * k)
            entries = list(dict.fromkeys([token, *best.tolist()]))[:k]
            z_k = np.sort(rng.normal(size=len(entries)) * 3)[::-1]
            log_p_k = (z_k - np.log(np.exp(z_k).sum()) - 0.1).astype(np.float32)
            rows.append(dict(zip(entries, log_p_k.astype(float).tolist(), strict=True)))
        choices.append(_choice(index, ids, rows, echo=echo))
    return json.dumps({"model": "big", "choices": choices}).encode()


def _choice(index: int, ids: list[int], rows: list[Any], *, echo: bool) -> dict[str, Any]:
    if echo:
        named = [row and {f"token_id:{i}": p for i, p in row.items()} for row in rows]
        tokens = [f"token_id:{i}" for i in ids]
        return {"index": index, "text": "", "logprobs": {"tokens": tokens, "top_logprobs": named}}
    full = [
        row
        and {
            str(i): {"logprob": p, "rank": n + 1, "decoded_token": f" w{i}"}
            for n, (i, p) in enumerate(row.items())
        }
        for row in rows
    ]
    return {"index": index, "text": "", "prompt_logprobs": full, "prompt_token_ids": ids}


def serve(out: Connection, dialect: str) -> None:
    """Answer until the process is ended; the same question is written once."""
    written: dict[bytes, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            asked = self.rfile.read(int(self.headers["content-length"]))
            if asked not in written:
                body = json.loads(asked)
                known = ("logprobs" in body) == (dialect == "echo")
                written[asked] = answer(body) if known else b'{"choices": [{"index": 0}]}'
            self.send_response(200)
            self.send_header("content-length", str(len(written[asked])))
            self.end_headers()
            self.wfile.write(written[asked])

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing is logged."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    out.send(server.server_address[1])
    server.serve_forever()


@contextmanager
def serving(dialect: str) -> Iterator[str]:
    """The URL of a server that lives as long as the body."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs, dialect), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.kill()
        process.join()


def measure(dialect: str, k: int, texts: int, tokens: int, repeats: int) -> Row:
    """Medians over the repeats, after one question that is not counted."""
    rng = np.random.default_rng(1)
    ids = [rng.integers(0, VOCABULARY, tokens).astype(np.int32) for _ in range(texts)]
    digests = [bytes([n]) * 16 for n in range(texts)]
    spec = PayloadSpec("topk", VOCABULARY, dtype="fp16", entries=k)
    request = Request(batch_digest(digests), digests, np.full(texts, tokens - 1, np.int32), spec, ids=ids)
    positions = texts * (tokens - 1)
    with serving(dialect) as url:
        server = Server(OpenAIRemote(type="openai", url=url))
        model = OpenAIModel(server, "big", Words(), tokens, texts)
        packet = model.score(request).select(range(texts))
        client_s, student_s = [], []
        before = server.bytes_received
        for _ in range(repeats):
            begin = time.perf_counter()
            packet = model.score(request)
            client_s.append(time.perf_counter() - begin)
            begin = time.perf_counter()
            decode(spec, pickle.loads(pickle.dumps(packet, 5)), None, "cpu")  # noqa: S301  # our own bytes
            student_s.append(time.perf_counter() - begin)
        received = (server.bytes_received - before) / repeats
        server.close()
    reply: Any = type("Reply", (), {"digest": request.digest, "packet": packet})
    assert fault(request, reply) is None
    return Row(
        dialect,
        k,
        received / positions,
        packet.nbytes / positions,
        1e6 * statistics.median(client_s) / positions,
        1e6 * statistics.median(student_s) / positions,
    )


def machine() -> str:
    """What the figures belong to."""
    return f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}"


def main() -> None:
    """Print one row for each dialect and k."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--texts", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows = [
        measure(dialect, k, given.texts, given.tokens, given.repeats) for dialect in DIALECTS for k in ENTRIES
    ]
    if given.json:
        json.dump({"machine": machine(), "rows": [asdict(row) for row in rows]}, sys.stdout)
        return
    print(f"{machine()}; {given.texts} texts of {given.tokens} tokens, vocabulary {VOCABULARY}")
    print("| dialect | k | JSON bytes | packet bytes | replica µs | student µs |\n|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row.dialect} | {row.k} | {row.json_bytes_a_token:,.0f} | {row.packet_bytes_a_token:.0f} "
            f"| {row.client_us_a_token:.0f} | {row.student_us_a_token:.2f} |"
        )


if __name__ == "__main__":
    main()
