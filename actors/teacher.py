"""A teacher: loads a model, says what it is, scores requests.

Shapes: N examples of a request, P positions, V classes or vocabulary, H hidden.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tutelage.config.remote import Remote
from tutelage.config.task import SequenceClassification, Task
from tutelage.signals.exchange import Reply, Request
from tutelage.signals.packet import Column, dense_packet


@dataclass(frozen=True)
class TeacherSpec:
    """All that a replica needs to be the same teacher on any machine."""

    name: str
    model: str
    """Folder that the replica's node sees."""
    tokenizer: str
    label_order: tuple[int, ...]
    """For each task label, the model's logit that means it; empty where columns are taken as they are."""
    max_tokens: int
    threads: int
    fingerprint: str
    task: Task = field(default_factory=lambda: SequenceClassification(labels=["0", "1"]))
    remote: Remote | None = None
    """The server that is this teacher; `model` is then its name there, `tokenizer` may be empty."""


class Scorer(Protocol):
    """What a fleet needs of a teacher."""

    def describe(self) -> dict[str, str]:
        """Facts about the replica: its process and what the model runs on."""
        ...

    def score(self, request: Request) -> Reply:
        """The signals that the request asks for."""
        ...

    def head(self) -> NDArray[np.float32]:
        """Weights [V, H] that turn a hidden state into logits; asked once where the payload is hidden."""
        ...


class Layers(Protocol):
    """The layers of the models in one process; see `tutelage.models.shared_layers`."""

    def add(self, model: Any) -> int:
        """Let the model use those that are the same as its own; how many."""
        ...


class Teacher:
    """A frozen model. Its tokenizer may differ from the student's where it is asked in text."""

    def __init__(self, spec: TeacherSpec, replica: str | int = 0, layers: Layers | None = None) -> None:
        """Args:
        spec: what is loaded.
        replica: its name in errors and reports, or its number.
        layers: those of the other teachers in this process, for all to use.
        """
        import torch

        from tutelage.models.load import load_tokenizer
        from tutelage.models.padding import settle_padding
        from tutelage.tasks import build_task

        torch.set_num_threads(spec.threads)
        self._spec = spec
        self._replica = replica if isinstance(replica, str) else f"{spec.name}-{replica}"
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._tokenizer = load_tokenizer(spec.tokenizer)
        self._task = build_task(spec.task)
        self._model = self._task.load(spec.model).to(self._device).eval()
        # Nothing is generated here: keys and values of earlier tokens would be kept for nobody.
        self._model.config.use_cache = False
        settle_padding(self._model, self._tokenizer)
        self._order = list(spec.label_order)
        self._shared = 0 if layers is None else layers.add(self._model)

    def describe(self) -> dict[str, str]:
        """Facts about the replica."""
        card = {"replica": self._replica, "pid": str(os.getpid()), "device": str(self._device)}
        return card | ({"shared_layers": str(self._shared)} if self._shared else {})

    def score(self, request: Request) -> Reply:
        """The model's rows for each example, packed as the request's payload says."""
        import torch

        from tutelage.signals.payloads import encode

        begin = time.perf_counter()
        with torch.inference_mode():
            rows = self._task.score(self._model, self._tokenizer, request, self._spec.max_tokens)
            values_RV = rows.values_RV[:, self._order] if self._order else rows.values_RV
            packet = encode(request.spec, values_RV, rows.lengths_N, request)
        return Reply(request.digest, packet, self._spec.name, self._replica, time.perf_counter() - begin)

    def head(self) -> NDArray[np.float32]:
        """Weights [V, H] of the output layer, fp32."""
        from tutelage.models.load import vocabulary_head

        known = 1 + max(self._tokenizer.get_vocab().values())
        head_VH: NDArray[np.float32] = vocabulary_head(self._model, known).detach().float().cpu().numpy()
        return head_VH


class ScriptedTeacher:
    """The twin for tests and benchmarks: a function of the text instead of a model, faults on demand."""

    def __init__(
        self,
        rule: Callable[[str], list[float]],
        name: str = "scripted",
        fault: Callable[[int, Reply], Reply] = lambda call, reply: reply,
    ) -> None:
        self._rule = rule
        self._name = name
        self._fault = fault
        self.calls = 0

    def describe(self) -> dict[str, str]:
        """Facts about the twin."""
        return {"replica": f"{self._name}-0", "pid": str(os.getpid()), "device": "none"}

    def score(self, request: Request) -> Reply:
        """The rule's logits for each text, passed through the fault."""
        self.calls += 1
        logits_NV = np.array([self._rule(text) for text in request.texts], dtype=np.float32)
        reply = Reply(request.digest, dense_packet(logits_NV), self._name, f"{self._name}-0", 0.0)
        return self._fault(self.calls, reply)

    def head(self) -> NDArray[np.float32]:
        """A rule has none. Raises ValueError."""
        raise ValueError("a scripted teacher has no vocabulary head")


def with_logits(reply: Reply, change: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> Reply:
    """A dense reply with changed logits, for faults of scripted teachers."""
    column = reply.packet.columns["logits"]
    packet = replace(reply.packet, columns={"logits": Column(change(column.values), column.rows_N)})
    return replace(reply, packet=packet)
