"""A teacher: loads a model, says what it is, scores texts.

Shapes: B batch, T tokens, C classes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from tutelage.signals.exchange import Logits, Reply, Request


@dataclass(frozen=True)
class TeacherSpec:
    """All that a replica needs to be the same teacher on any machine."""

    name: str
    model: str
    """Folder that the replica's node sees."""
    tokenizer: str
    label_order: tuple[int, ...]
    """For each task label, the model's logit that means it."""
    max_tokens: int
    threads: int
    fingerprint: str


class Scorer(Protocol):
    """What a fleet needs of a teacher."""

    def describe(self) -> dict[str, str]:
        """Facts about the replica: its process and what the model runs on."""
        ...

    def score(self, request: Request) -> Reply:
        """Logits for each text of the request."""
        ...


class Teacher:
    """A frozen classifier. Its tokenizer may differ from the student's, so it is asked in text."""

    def __init__(self, spec: TeacherSpec, replica: int = 0) -> None:
        import torch

        from tutelage.models.load import load_classifier, load_tokenizer

        torch.set_num_threads(spec.threads)
        self._spec = spec
        self._replica = f"{spec.name}-{replica}"
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._tokenizer = load_tokenizer(spec.tokenizer)
        self._model = load_classifier(spec.model).to(self._device).eval()
        self._order = list(spec.label_order)

    def describe(self) -> dict[str, str]:
        """Facts about the replica."""
        return {"replica": self._replica, "pid": str(os.getpid()), "device": str(self._device)}

    def score(self, request: Request) -> Reply:
        """Logits [B, C] in the order of the task's labels."""
        import torch

        begin = time.perf_counter()
        tokens_BT: Any = self._tokenizer(
            request.texts,
            truncation=True,
            max_length=self._spec.max_tokens,
            padding=True,
            pad_to_multiple_of=8,
            return_tensors="pt",
        ).to(self._device)
        with torch.inference_mode():
            logits_BC = self._model(**tokens_BT).logits[:, self._order].float().cpu().numpy()
        return Reply(
            digest=request.digest,
            logits_BC=np.ascontiguousarray(logits_BC),
            teacher=self._spec.name,
            replica=self._replica,
            seconds=time.perf_counter() - begin,
        )


class ScriptedTeacher:
    """The twin for tests: a function of the text instead of a model, faults on demand."""

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
        logits_BC: Logits = np.array([self._rule(text) for text in request.texts], dtype=np.float32)
        return self._fault(self.calls, Reply(request.digest, logits_BC, self._name, f"{self._name}-0", 0.0))
