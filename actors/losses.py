"""From the student's output and the teachers' packets to a loss at each position.

Shapes: P positions of a micro-batch, V classes or vocabulary, K teachers, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actors.retaining import retaining, stored_logits
from actors.stream import Ask
from actors.training import Training
from tutelage.config.objectives import KL
from tutelage.config.update import CHAMPION
from tutelage.data.examples import Batch, Examples
from tutelage.errors import TeacherError
from tutelage.models.alignment import aligned
from tutelage.objectives import Evidence, Schedules, Signal, Term, build_combiner, build_terms, heard
from tutelage.objectives.base import CombinerRule
from tutelage.objectives.kl import KLTerm
from tutelage.signals.exchange import Request
from tutelage.signals.packet import Packet
from tutelage.signals.payloads import signal_of
from tutelage.signals.spec import PayloadSpec
from tutelage.tasks import StudentRows, build_task

Head = Callable[[str], NDArray[Any]]
"""The output layer [V, H] of a teacher by name; asked once, where the payload is hidden states."""


SILENT_BATCHES = 20
"""So many batches without a word from a teacher that answers are no coincidence."""


class Losses:
    """Task, payloads, combiner and loss terms of one training, in this order."""

    def __init__(self, training: Training, examples: Examples, head: Head) -> None:
        self.task = build_task(training.task)
        terms = build_terms(training.objectives, training.groups)
        self._schedules = Schedules(terms, training.objectives)
        self.terms: list[Term] = [*terms, *retaining(training.increment, training.groups)]
        self._combined = training.combined
        self._combiner = build_combiner(training.combiner, self._combined, training.measured)
        self._stored = stored_logits(training.increment)
        self._specs = training.payloads
        self._examples = examples
        self._head = head
        self._heads: dict[str, Tensor] = {}
        self._covered: dict[str, tuple[int, bool]] = {}
        """For each teacher: batches looked at, and whether any position was covered."""

    def at(self, progress: float) -> dict[str, float]:
        """Set weights and temperatures to those of a progress in [0, 1]; returns the ones that change.

        Called once an optimiser step, so all micro-batches of a step go by the same values.
        """
        return self._schedules.at(progress)

    def per_term(self, output: Any, batch: Batch, packets: list[Packet | None]) -> list[Tensor]:
        """For each term the loss at each position, fp32 [P], from a model's output for the batch.

        Raises TeacherError when every teacher is lost.
        """
        evidence = self.evidence(self.task.student(output, batch), batch, packets)
        return [term.per_position(evidence) for term in self.terms]

    def evidence(self, rows: StudentRows, batch: Batch, packets: list[Packet | None]) -> Evidence:
        """What the terms look at."""
        stored_PV = self._stored(batch, rows.logits_PV)
        if not packets:
            return Evidence(rows.logits_PV, rows.labels_P, stored_PV=stored_PV)
        if all(packet is None for packet in packets):
            raise TeacherError(
                "every teacher is lost: nobody is left to learn from",
                fix="look at the teachers' logs; repeating the command goes on from the last checkpoint",
            )
        slices_B = self._examples.slices(batch.rows)
        signals = self._signals(rows, batch, packets, slices_B)
        self._count(signals, packets)
        by_name = dict(zip(self._specs, signals, strict=True))
        others = [by_name[name] for name in self._combined]
        weights_KP = None
        if others:
            weights_KP = heard(self._combiner.weights(others, slices_B, rows.examples_P), others)
        champion = None if len(others) == len(signals) else by_name[CHAMPION]
        return Evidence(rows.logits_PV, rows.labels_P, tuple(others), weights_KP, champion, stored_PV)

    def fidelity(self, rows: StudentRows, batch: Batch, packets: list[Packet | None]) -> Tensor:
        """How far the student is from the uniform mean of its teachers, in nats, fp32 [P].

        The `kl` term at temperature 1, or at that of a payload which is cut or drawn at another. It means the
        same whatever temperature, weights and combiner the student learns by.
        """
        signals = self._signals(rows, batch, packets, self._examples.slices(batch.rows))
        shape = len(signals), len(rows.logits_PV)
        even_KP = rows.logits_PV.new_full(shape, 1 / len(signals), dtype=torch.float32)
        temperatures = [spec.temperature for spec in self._specs.values()]
        term = KLTerm(KL(type="kl", temperature=temperatures[0]))
        evidence = Evidence(rows.logits_PV, rows.labels_P, tuple(signals), heard(even_KP, signals))
        return term.per_position(evidence) / temperatures[0] ** 2

    def _signals(
        self, rows: StudentRows, batch: Batch, packets: list[Packet | None], slices_B: Sequence[str]
    ) -> list[Signal]:
        return [
            self._signal(name, packet, rows, batch, slices_B)
            for name, packet in zip(self._specs, packets, strict=True)
        ]

    def _count(self, signals: list[Signal], packets: list[Packet | None]) -> None:
        """Raise TeacherError for a teacher that covered no position of its first batches."""
        for name, signal, packet in zip(self._specs, signals, packets, strict=True):
            batches, covered = self._covered.get(name, (0, False))
            if covered or packet is None:
                continue
            covered = signal.known_P is None or bool(signal.known_P.any())
            self._covered[name] = batches + 1, covered
            if not covered and batches + 1 >= SILENT_BATCHES:
                raise TeacherError(
                    f"teacher '{name}' covered no position of {SILENT_BATCHES} batches: its texts are cut "
                    "before what is to be predicted",
                    fix=f"raise teachers.{name}.max_tokens, or lower data.max_tokens",
                )

    def _signal(
        self, name: str, packet: Packet | None, rows: StudentRows, batch: Batch, slices_B: Sequence[str]
    ) -> Signal:
        spec = self._specs[name]
        if spec.kind == "hidden" and name not in self._heads and packet is not None:
            self._heads[name] = aligned(torch.from_numpy(self._head(name))).to(rows.logits_PV.device)
        return signal_of(
            spec,
            packet,
            rows.logits_PV,
            rows.examples_P,
            lambda values_RV, lengths_N: self.task.place(values_RV, lengths_N, rows, batch),
            head=self._heads.get(name),
            examples=batch.digests,
            shares_NK=_shares(self._combiner, slices_B) if spec.mixture else None,
        )


def asker(training: Training, examples: Examples) -> Ask:
    """How a batch becomes a question to one teacher of the training."""
    task = build_task(training.task)
    combiner = build_combiner(training.combiner, training.combined, training.measured)

    def ask(batch: Batch, spec: PayloadSpec) -> Request:
        request = task.request(batch, spec)
        if not spec.mixture:
            return request
        return replace(request, shares_NK=_shares(combiner, examples.slices(batch.rows)))

    return ask


def _shares(combiner: CombinerRule, slices_B: Sequence[str]) -> NDArray[np.float32]:
    """Each teacher's share of the draws of each example, fp32 [B, K]."""
    shares_KB = combiner.shares(slices_B)
    if shares_KB is None:
        raise ValueError("this combiner weighs replies, so draws cannot be shared out before they are asked")
    shares_BK: NDArray[np.float32] = shares_KB.T.float().contiguous().numpy()
    return shares_BK
