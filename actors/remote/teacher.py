"""A teacher that is a server: it describes, scores and fails as a teacher in this process does."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from actors.remote.base import RemoteModel, wrong
from actors.remote.http import Server
from actors.remote.oip import OipModel
from actors.remote.openai import OpenAIModel
from actors.teacher import TeacherSpec
from tutelage.config.remote import OpenAIRemote
from tutelage.errors import ConfigError, TeacherError
from tutelage.files import digest_file, digest_text
from tutelage.semantics import SIGNALS
from tutelage.signals.exchange import Reply, Request
from tutelage.signals.spec import PayloadSpec

_TOKENIZER_FILES = ("tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "*.model")


class RemoteTeacher:
    """One client of the server. Several replicas are several questions under way at once.

    The server's weights cannot be seen. That it is the same server is checked by what it says of itself:
    at the start, and again whenever it was away.
    """

    def __init__(
        self, spec: TeacherSpec, replica: str | int = 0, *, transport: httpx.BaseTransport | None = None
    ) -> None:
        """Connects at once. Raises TeacherError when no server is there, or not that of the fingerprint."""
        if spec.remote is None:
            raise ValueError(f"teacher {spec.name} is not remote")
        self._spec = spec
        self._replica = replica if isinstance(replica, str) else f"{spec.name}-{replica}"
        self._server = Server(spec.remote, transport=transport)
        self._model = build_model(spec, self._server)
        self.identity = self._model.identity()
        self._retried = self._server.retried
        found = remote_fingerprint(spec, self.identity)
        if spec.fingerprint not in ("", found):
            raise wrong(
                f"teacher '{spec.name}' at {spec.remote.url}",
                f"the server or its tokenizer is another one here (fingerprint {found}) than where the run "
                f"was set up ({spec.fingerprint})",
                fix="let remote.url and the tokenizer mean the same on every node, and start the run again",
            )

    def describe(self) -> dict[str, str]:
        """Facts about the replica."""
        assert self._spec.remote is not None
        return {"replica": self._replica, "pid": str(os.getpid()), "device": self._spec.remote.url}

    def probe(self, payload: PayloadSpec) -> None:
        """One tiny question in the payload. Raises TeacherError or ConfigError when it cannot be served."""
        self._model.probe(payload)

    def score(self, request: Request) -> Reply:
        """The server's signals, as the request's payload packs them.

        Raises TeacherError with the server, the status and the reason: the batch is then asked elsewhere.
        """
        begin = time.perf_counter()
        with self._server.question():
            packet = self._model.score(request)
            if self._server.retried != self._retried:
                self._same_server()
                self._retried = self._server.retried
        return Reply(request.digest, packet, self._spec.name, self._replica, time.perf_counter() - begin)

    def head(self) -> NDArray[np.float32]:
        """A server does not give it. Raises TeacherError."""
        raise TeacherError(
            f"teacher '{self._spec.name}' is remote: its head cannot be read",
            fix="use another payload than hidden for this teacher",
        )

    @property
    def bytes_received(self) -> int:
        """Bytes of all answers, unpacked."""
        return self._server.bytes_received

    def close(self) -> None:
        """Close the connections."""
        self._server.close()

    def _same_server(self) -> None:
        """A server that was away may come back with another model under the same name."""
        now = self._model.identity()
        if now != self.identity:
            raise wrong(
                f"teacher '{self._spec.name}' at {self._server.url}",
                f"the server came back as another one: {_difference(self.identity, now)}",
                fix="start the run again; signals of the old server stay in the store under its fingerprint",
            )


def build_model(spec: TeacherSpec, server: Server) -> RemoteModel:
    """The spec's model behind its protocol. Raises ConfigError for a task that the protocol cannot serve."""
    remote = spec.remote
    assert remote is not None
    check_task(spec.name, remote.type, spec.task.type)
    tokenizer = _tokenizer(spec.tokenizer)
    if isinstance(remote, OpenAIRemote):
        if tokenizer is None:
            raise ConfigError(
                f"teachers.{spec.name}.tokenizer is null: an openai server is asked in token ids",
                fix="name the tokenizer of the server's model",
            )
        return OpenAIModel(server, spec.model, tokenizer, spec.max_tokens, remote.batch)
    return OipModel(server, remote, spec.model, tokenizer, spec.label_order, spec.max_tokens)


def check_task(name: str, protocol: str, task: str) -> None:
    """Raise ConfigError unless the protocol serves the task."""
    serves = {"openai": "causal-lm", "oip": "sequence-classification"}[protocol]
    if task != serves:
        raise ConfigError(
            f"teachers.{name}.remote.type is {protocol}, which serves {serves}; task.type is {task}",
            fix="use a teacher that is loaded from a folder"
            if task not in ("causal-lm", "sequence-classification")
            else f"use remote.type: {'openai' if task == 'causal-lm' else 'oip'}",
        )


def remote_fingerprint(spec: TeacherSpec, identity: dict[str, Any]) -> str:
    """16 hex digits over all that can be known of a remote teacher; spec.fingerprint is not read.

    The weights are not among it: `revision` stands for them.
    """
    remote = spec.remote
    assert remote is not None
    place = {"timeout_s", "retries", "batch", "max_reply_mb", "api_key_env", "insecure"}
    parts = [
        "remote",
        f"signals {SIGNALS}",
        remote.model_dump_json(exclude=place),
        spec.model,
        _sorted(identity),
    ]
    parts += [str(list(spec.label_order)), str(spec.max_tokens), spec.task.model_dump_json()]
    folder = Path(spec.tokenizer) if spec.tokenizer else None
    files = sorted({path for one in _TOKENIZER_FILES for path in folder.glob(one)}) if folder else []
    parts += [f"{path.name}={digest_file(path)}" for path in files]
    return digest_text(*parts)[:16]


def _tokenizer(folder: str) -> Any:
    from tutelage.models.load import load_tokenizer

    return load_tokenizer(folder) if folder else None


def _sorted(value: Any) -> str:
    import json

    return json.dumps(value, sort_keys=True, ensure_ascii=True)


def _difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    changed = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
    return ", ".join(f"{key} was {before.get(key)}, is {now.get(key)}" for key in changed)[:400]
