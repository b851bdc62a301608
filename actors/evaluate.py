"""Judging teachers and their ensembles on rows that no training saw, by the stream.

Shapes: P positions, V classes or vocabulary, K teachers, B batch, N rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actors.channel import TeacherChannel
from actors.fitting import tokenizer_of
from actors.members import Members
from actors.payloads import dense_specs, signal_folders
from actors.replica import LocalReplica
from actors.scorer import make_scorer
from actors.stream import SignalStream
from actors.tally import Scores, Tally, in_order
from actors.teacher import TeacherSpec
from actors.workspace import Workspace
from tutelage.config.objectives import Combiner, Uniform
from tutelage.data.examples import Batch, Examples
from tutelage.errors import ConfigError, DataError
from tutelage.objectives import Dense, build_combiner, heard, mixture
from tutelage.progress import Stage
from tutelage.signals.packet import Packet
from tutelage.signals.payloads import signal_of
from tutelage.signals.store import MemoryStore, SignalStore
from tutelage.signals.store.open import open_store
from tutelage.tasks import StudentRows, blank, build_task

BATCH = 32
PARITY_EXAMPLES = 64
PARITY_TOLERANCE = 1e-4
"""Largest logit difference between a streamed and a local teacher that counts as the same in fp32."""

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Judgement:
    """What the teachers, alone and together, and their student are worth on the test rows."""

    teachers: dict[str, Scores]
    uniform: Scores | None
    combined: Scores | None
    weights: dict[str, dict[str, float]]
    """For each slice, the mean weight that the combiner gives each teacher."""
    parity: float | None
    """Largest logit difference between streamed and local scoring; None without teachers."""
    parity_same_label: float
    parity_examples: int
    student: Scores | None = None
    """The student that was trained from them, in torch, on the same rows."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> Judgement:
        """Read what `to_json` wrote."""
        scores = {name: Scores.from_json(value) for name, value in kept["teachers"].items()}
        others = {
            key: Scores.from_json(kept[key]) if kept.get(key) else None
            for key in ("uniform", "combined", "student")
        }
        return cls(**{**kept, "teachers": scores, **others})


@dataclass(frozen=True)
class Asked:
    """The teachers of a job, to be asked through the stream for all logits."""

    space: Workspace
    specs: list[TeacherSpec]
    members: dict[str, Members]
    signals: Path
    """Folder of the signal store."""

    @property
    def names(self) -> list[str]:
        """Teachers in the order of the job."""
        return [spec.name for spec in self.specs]

    def channels(self) -> list[TeacherChannel]:
        """Fresh channels to all replicas."""
        stream, payloads = self.space.job.stream, dense_specs(self.space, self.specs)
        return [TeacherChannel(n, self.members[n], payloads[n], stream) for n in self.names]

    def stream(self, channels: list[TeacherChannel], stores: dict[str, SignalStore]) -> SignalStream:
        """A stream over the channels."""
        return SignalStream(channels, stores, self.space.job.stream, build_task(self.space.job.task).request)

    def heard(
        self, examples: Examples, rows: Rows, stage: Stage
    ) -> Iterator[tuple[Batch, StudentRows, list[Dense]]]:
        """The rows in batches, with the positions and logits of every teacher there.

        What the signal store has is not asked again. Logits over a vocabulary are too large to be kept.
        """
        payloads = dense_specs(self.space, self.specs)
        folders = signal_folders(self.signals, self.specs, payloads)
        config = self.space.job.stream.store
        stores = {name: open_store(config, Path(folders[name]), name) for name in self.names}
        stream = self.stream(self.channels(), stores)
        done = 0
        for batch, packets in stream.pair(batches_of(examples, rows, fresh=self.passing)):
            at = blank(batch)
            yield batch, at, [self.place(n, packet, at, batch) for n, packet in enumerate(packets)]
            done += len(batch.rows)
            stage.update(done, len(rows))
        stream.flush()

    @property
    def passing(self) -> bool:
        """True where logits are not kept."""
        return self.space.job.task.type == "causal-lm"

    def place(self, k: int, packet: Packet | None, at: StudentRows, batch: Batch) -> Dense:
        """The k-th teacher's logits at the student's positions."""
        spec = dense_specs(self.space, self.specs)[self.names[k]]
        kind = build_task(self.space.job.task)
        signal = signal_of(
            spec,
            packet,
            at.logits_PV,
            at.examples_P,
            lambda values_RV, lengths_N: kind.place(values_RV, lengths_N, at, batch),
        )
        assert isinstance(signal, Dense), "judging asks for dense payloads"
        return signal


def judgeable(specs: list[TeacherSpec]) -> list[TeacherSpec]:
    """The teachers that can give all their logits; completions servers give the largest few alone."""
    return [spec for spec in specs if spec.remote is None or spec.remote.type != "openai"]


def measure_teachers(asked: Asked, stage: Stage) -> dict[str, dict[str, float]]:
    """Mean negative log-likelihood of the labelled validation positions: slice -> teacher -> nats.

    Raises DataError when no validation row has a label, ConfigError when a teacher cannot be measured.
    """
    silent = [t.name for t in asked.space.job.teachers if t.name not in asked.names]
    if silent:
        raise ConfigError(
            f"combiner 'validated' measures teachers by all their logits, and {silent[0]} cannot give them",
            fix="use combiner.type=uniform",
        )
    examples = student_examples(asked.space)
    rows = labelled_rows(examples, "validation")
    if not len(rows):
        raise DataError(
            "combiner 'validated' goes by labelled validation rows, and there are none",
            fix="label some rows, or use combiner.type=uniform",
        )
    tallies = {name: Tally(asked.space.job.task) for name in asked.names}
    for batch, at, signals in asked.heard(examples, rows, stage):
        slices = examples.slices(batch.rows)
        for tally, signal in zip(tallies.values(), signals, strict=True):
            tally.add(signal.logits_PV, at, batch, slices)
    return {
        part: {name: tally.nll(part) for name, tally in tallies.items()}
        for part in in_order(examples.slices(rows))
    }


def judge_teachers(asked: Asked, measured: dict[str, dict[str, float]], stage: Stage) -> Judgement:
    """Score the labelled test rows by the stream, and compare a few with a teacher in this process.

    Without labelled test rows there are no scores; the comparison takes any rows.
    """
    space, names = asked.space, asked.names
    examples = student_examples(space)
    rows = labelled_rows(examples, "test")
    if not names:
        return Judgement({}, None, None, {}, None, 1.0, 0)
    probe = first_rows(examples, "test", "validation", "train")
    probe = probe[np.argsort(examples.lengths(probe), kind="stable")][:PARITY_EXAMPLES]
    parity, same = _parity(asked, examples, probe)
    if not len(rows):
        return Judgement({}, None, None, {}, parity, same, len(probe))
    whole = len(names) == len(space.job.teachers)
    teachers = {name: Tally(space.job.task) for name in names}
    uniform = _Ensemble(space, Uniform(), names, {})
    combined = _Ensemble(space, space.job.combiner if whole else Uniform(), names, measured)
    for batch, at, signals in asked.heard(examples, rows, stage):
        slices = examples.slices(batch.rows)
        for tally, signal in zip(teachers.values(), signals, strict=True):
            tally.add(signal.logits_PV, at, batch, slices)
        for ensemble in (uniform, combined):
            ensemble.add(signals, at, batch, slices)
    order = in_order(examples.slices(rows))
    return Judgement(
        teachers={name: tally.scores(order) for name, tally in teachers.items()},
        uniform=uniform.tally.scores(order) if whole else None,
        combined=combined.tally.scores(order) if whole else None,
        weights=combined.mean_weights(order) if whole else {},
        parity=parity,
        parity_same_label=same,
        parity_examples=len(probe),
    )


class _Ensemble:
    """Teachers mixed by a combiner, and what it weighs them."""

    def __init__(
        self, space: Workspace, combiner: Combiner, names: list[str], measured: dict[str, dict[str, float]]
    ) -> None:
        self.tally = Tally(space.job.task)
        self._names = names
        self._rule = build_combiner(combiner, names, measured)
        self._weights: dict[str, Tensor] = {}

    def add(self, signals: list[Dense], at: StudentRows, batch: Batch, slices_B: Sequence[str]) -> None:
        """Count one batch."""
        weights_KP = heard(self._rule.weights(signals, slices_B, at.examples_P), signals)
        mixed_PV = mixture(torch.stack([signal.logits_PV for signal in signals]), weights_KP)
        self.tally.add(torch.log(mixed_PV.clamp_min(1e-30)), at, batch, slices_B)
        for part in in_order(slices_B):
            here_B = torch.tensor([name == part for name in slices_B])
            total_K = weights_KP[:, here_B[at.examples_P]].double().sum(1)
            self._weights[part] = self._weights.get(part, torch.zeros(len(total_K))) + total_K

    def mean_weights(self, order: list[str]) -> dict[str, dict[str, float]]:
        """For each slice the mean weight of each teacher."""
        shares = {part: self._weights[part] / self._weights[part].sum() for part in order}
        return {
            part: dict(zip(self._names, share_K.tolist(), strict=True)) for part, share_K in shares.items()
        }


def student_examples(space: Workspace) -> Examples:
    """The job's rows, tokenised for the student."""
    return Examples.open(
        space.tokens_of(tokenizer_of(space.job.student.tokenizer, space.student, space.home))
    )


def labelled_rows(examples: Examples, split: str, sources: Iterable[str] | None = None) -> Rows:
    """Rows of a split that have a label, of all sources or of these."""
    chosen = examples.select(split, sources=sources)
    rows: Rows = chosen.rows[chosen.labelled]
    return rows


def first_rows(examples: Examples, *splits: str) -> Rows:
    """All rows of the first of these splits that has any; a label is not needed."""
    found = [examples.select(split).rows for split in splits]
    return next((rows for rows in found if len(rows)), found[-1])


def batches_of(examples: Examples, rows: Rows, pad_id: int = 0, *, fresh: bool = False) -> Iterator[Batch]:
    """Batches of rows of similar length, shortest first; `fresh` keeps their signals out of the store."""
    order = np.argsort(examples.lengths(rows), kind="stable")
    for start in range(0, len(order), BATCH):
        chosen = rows[order[start : start + BATCH]]
        yield replace(examples.batch(chosen, np.ones(len(chosen), bool), pad_id), fresh=fresh)


def _parity(asked: Asked, examples: Examples, probe: Rows) -> tuple[float, float]:
    """The same texts through the fleet and through a teacher in this process.

    Returns the largest logit difference, and the share of positions with the same label.
    """
    worst, same, places = 0.0, 0, 0
    for k, (spec, channel) in enumerate(zip(asked.specs, asked.channels(), strict=True)):
        local = TeacherChannel(
            spec.name, [LocalReplica(make_scorer(spec))], channel.spec, asked.space.job.stream
        )
        sides = [
            asked.stream([side], {spec.name: MemoryStore()}).pair(batches_of(examples, probe, fresh=True))
            for side in (channel, local)
        ]
        for (batch, streamed), (_, alone) in zip(*sides, strict=True):
            at = blank(batch)
            one, other = (asked.place(k, packets[0], at, batch).logits_PV for packets in (streamed, alone))
            worst = max(worst, float((one - other).abs().max()) if one.numel() else 0.0)
            same += int((one.argmax(-1) == other.argmax(-1)).sum())
            places += len(one)
    return worst, same / max(1, places)
