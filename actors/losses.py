"""From the student's output and the teachers' packets to a loss at each position.

Shapes: P positions of a micro-batch, V classes or vocabulary, K teachers, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from actors.training import Training
from tutelage.data.examples import Batch, Examples
from tutelage.errors import TeacherError
from tutelage.objectives import Dense, Evidence, Signal, Term, build_combiner, build_terms, heard
from tutelage.signals.packet import Packet
from tutelage.signals.payloads import signal_of
from tutelage.tasks import StudentRows, build_task

Head = Callable[[str], NDArray[Any]]
"""The output layer [V, H] of a teacher by name; asked once, where the payload is hidden states."""


class Losses:
    """Task, payloads, combiner and loss terms of one training, in this order."""

    def __init__(self, training: Training, examples: Examples, head: Head) -> None:
        self.task = build_task(training.task)
        self.terms: list[Term] = build_terms(training.objectives)
        self._combiner = build_combiner(training.combiner, list(training.payloads), training.measured)
        self._specs = training.payloads
        self._examples = examples
        self._head = head
        self._heads: dict[str, Tensor] = {}

    def per_term(self, output: Any, batch: Batch, packets: list[Packet | None]) -> list[Tensor]:
        """For each term the loss at each position, fp32 [P], from a model's output for the batch.

        Raises TeacherError when every teacher is lost.
        """
        evidence = self.evidence(self.task.student(output, batch), batch, packets)
        return [term.per_position(evidence) for term in self.terms]

    def evidence(self, rows: StudentRows, batch: Batch, packets: list[Packet | None]) -> Evidence:
        """What the terms look at."""
        if not packets:
            return Evidence(rows.logits_PV, rows.labels_P)
        if all(packet is None for packet in packets):
            raise TeacherError(
                "every teacher is lost: nobody is left to learn from",
                fix="look at the teachers' logs; repeating the command goes on from the last checkpoint",
            )
        signals = [
            _lost(rows) if packet is None else self._signal(name, packet, rows, batch)
            for name, packet in zip(self._specs, packets, strict=True)
        ]
        slices_B = self._examples.slices(batch.rows)
        weights_KP = self._combiner.weights(signals, slices_B, rows.examples_P)
        return Evidence(rows.logits_PV, rows.labels_P, tuple(signals), heard(weights_KP, signals))

    def _signal(self, name: str, packet: Packet, rows: StudentRows, batch: Batch) -> Signal:
        spec = self._specs[name]
        if spec.kind == "hidden" and name not in self._heads:
            self._heads[name] = torch.from_numpy(self._head(name)).to(rows.logits_PV.device)
        return signal_of(
            spec,
            packet,
            rows.examples_P,
            lambda values_RV, lengths_N: self.task.place(values_RV, lengths_N, rows, batch),
            head_VH=self._heads.get(name),
        )


def _lost(rows: StudentRows) -> Dense:
    """The place of a teacher that says nothing."""
    nothing_PV = torch.zeros(1, 1, device=rows.logits_PV.device).expand(rows.logits_PV.shape)
    return Dense(nothing_PV, torch.zeros_like(rows.labels_P, dtype=torch.bool))
