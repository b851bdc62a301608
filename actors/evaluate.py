"""Judging teachers, ensembles and students on rows that no training saw.

Shapes: N examples, C classes, K teachers, B batch, T tokens.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from actors.channel import TeacherChannel
from actors.payloads import dense_specs, signal_folders
from actors.replica import LocalReplica, Replica
from actors.stream import SignalStream
from actors.teacher import Teacher, TeacherSpec
from actors.workspace import Workspace, tokenizer_of
from tutelage.config.objectives import Uniform
from tutelage.data.examples import Batch, Examples
from tutelage.errors import DataError
from tutelage.export.session import OnnxClassifier
from tutelage.export.student import Probe
from tutelage.models.load import load_classifier, load_tokenizer
from tutelage.objectives import Dense, build_combiner, mixture
from tutelage.progress import Stage
from tutelage.signals.exchange import Logits
from tutelage.signals.packet import Packet
from tutelage.signals.store import ArrowStore, MemoryStore, SignalStore
from tutelage.tasks import build_task

BATCH = 32
PROBE_EXAMPLES = 1000
"""Validation rows on which exports are compared with torch."""
PARITY_EXAMPLES = 64
PARITY_TOLERANCE = 1e-4
"""Largest logit difference between a streamed and a local teacher that counts as the same in fp32."""

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Scores:
    """Accuracy of one model: by slice, and the mean over slices."""

    by_slice: dict[str, float]
    mean: float
    examples: int


@dataclass(frozen=True)
class Judgement:
    """What the teachers are worth on the test rows, alone and together."""

    teachers: dict[str, Scores]
    uniform: Scores | None
    combined: Scores | None
    weights: dict[str, dict[str, float]]
    """For each slice, the mean weight that the combiner gives each teacher."""
    parity: float | None
    """Largest logit difference between streamed and local scoring; None without teachers."""
    parity_same_label: float
    parity_examples: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> Judgement:
        """Read what `to_json` wrote."""
        scores = {name: Scores(**value) for name, value in kept["teachers"].items()}
        uniform, combined = (Scores(**kept[key]) if kept[key] else None for key in ("uniform", "combined"))
        return cls(**{**kept, "teachers": scores, "uniform": uniform, "combined": combined})


@dataclass(frozen=True)
class Asked:
    """The teachers of a job, to be asked through the stream."""

    space: Workspace
    specs: list[TeacherSpec]
    replicas: dict[str, list[Replica]]
    signals: Path
    """Folder of the signal store."""

    @property
    def names(self) -> list[str]:
        """Teachers in the order of the job."""
        return [spec.name for spec in self.specs]

    def channels(self) -> list[TeacherChannel]:
        """Fresh channels to all replicas, for logits in full."""
        stream = self.space.job.stream
        payloads = dense_specs(self.space, self.specs)
        return [TeacherChannel(n, self.replicas[n], payloads[n], stream) for n in self.names]

    def stream(self, channels: list[TeacherChannel], stores: dict[str, SignalStore]) -> SignalStream:
        """A stream over the channels."""
        ask = build_task(self.space.job.task).request
        return SignalStream(channels, stores, self.space.job.stream, ask)

    def logits(self, examples: Examples, rows: Rows, stage: Stage) -> Logits:
        """Logits [K, N, C] of the rows; what the signal store has is not asked again."""
        payloads = dense_specs(self.space, self.specs)
        folders = signal_folders(self.signals, self.specs, payloads)
        stream = self.stream(self.channels(), {n: ArrowStore(Path(folders[n])) for n in self.names})
        collected_KNC = _collect(stream, examples, rows, stage)
        stream.flush()
        return collected_KNC


def measure_teachers(asked: Asked, stage: Stage) -> dict[str, dict[str, float]]:
    """Mean negative log-likelihood of the labelled validation rows: slice -> teacher -> nats.

    Raises DataError when no validation row has a label.
    """
    examples = student_examples(asked.space)
    rows = labelled_rows(examples, "validation")
    if not len(rows):
        raise DataError(
            "combiner 'validated' goes by labelled validation rows, and there are none",
            fix="label some rows, or use combiner.type=uniform",
        )
    log_KNC = torch.log_softmax(torch.from_numpy(asked.logits(examples, rows, stage)), dim=-1).numpy()
    nll_KN = -log_KNC[:, np.arange(len(rows)), examples.labels(rows)]
    slices = np.array(examples.slices(rows))
    return {
        str(part): {name: float(nll_KN[k, slices == part].mean()) for k, name in enumerate(asked.names)}
        for part in in_order(slices)
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
    logits_KNC = asked.logits(examples, rows, stage)
    labels, slices = examples.labels(rows), np.array(examples.slices(rows))
    teachers_KNC = torch.from_numpy(logits_KNC)
    rule = build_combiner(space.job.combiner, names, measured)
    signals, each_N = [Dense(logits_NC) for logits_NC in teachers_KNC], torch.arange(len(rows))
    weights_KN = rule.weights(signals, slices.tolist(), each_N)
    uniform_KN = build_combiner(Uniform(), names).weights(signals, slices.tolist(), each_N)
    return Judgement(
        teachers={name: score(logits_KNC[k], labels, slices) for k, name in enumerate(names)},
        uniform=score(mixture(teachers_KNC, uniform_KN).numpy(), labels, slices),
        combined=score(mixture(teachers_KNC, weights_KN).numpy(), labels, slices),
        weights={
            str(part): {name: float(weights_KN[k, slices == part].mean()) for k, name in enumerate(names)}
            for part in in_order(slices)
        },
        parity=parity,
        parity_same_label=same,
        parity_examples=len(probe),
    )


def student_examples(space: Workspace) -> Examples:
    """The job's rows, tokenised for the student."""
    return Examples.open(
        space.tokens_of(tokenizer_of(space.job.student.tokenizer, space.student, space.home))
    )


def labelled_rows(examples: Examples, split: str) -> Rows:
    """Rows of a split that have a label."""
    chosen = examples.select(split)
    rows: Rows = chosen.rows[chosen.labelled]
    return rows


def first_rows(examples: Examples, *splits: str) -> Rows:
    """All rows of the first of these splits that has any; a label is not needed."""
    found = [examples.select(split).rows for split in splits]
    return next((rows for rows in found if len(rows)), found[-1])


def batches_of(examples: Examples, rows: Rows, pad_id: int) -> list[tuple[Rows, Batch]]:
    """Batches of similar length; with each, the places of its rows in `rows`."""
    order = np.argsort(examples.lengths(rows), kind="stable")
    places = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    return [(place, examples.batch(rows[place], np.ones(len(place), bool), pad_id)) for place in places]


@dataclass(frozen=True)
class StudentJudge:
    """The student on the labelled test rows, and what its ONNX files are checked on."""

    torch: Scores
    probe: Probe
    _batches: list[tuple[Rows, Batch]]
    _labels: NDArray[np.int32]
    _slices: NDArray[np.str_]

    def onnx(self, path: Path) -> Scores:
        """The same test rows through an ONNX file."""
        session = OnnxClassifier(path, threads=torch.get_num_threads())
        logits_NC = _in_order(
            self._batches, lambda batch: session.logits(batch.input_ids_BT, batch.attention_mask_BT)
        )
        return score(logits_NC, self._labels, self._slices)


def judge_student(space: Workspace, folder: Path) -> StudentJudge:
    """Score a torch student on the test rows, and on the validation rows that exports must agree on."""
    labels = space.job.task.labels
    torch.set_num_threads(os.cpu_count() or 1)
    model = load_classifier(folder, labels)
    pad_id = load_tokenizer(folder).pad_token_id or 0
    examples = student_examples(space)
    test = labelled_rows(examples, "test")
    probe = first_rows(examples, "validation", "test", "train")[:PROBE_EXAMPLES]

    def logits(batch: Batch) -> Logits:
        tokens = torch.from_numpy(batch.input_ids_BT), torch.from_numpy(batch.attention_mask_BT)
        with torch.inference_mode():
            found: Logits = model(input_ids=tokens[0], attention_mask=tokens[1]).logits.numpy()
        return found

    batches = batches_of(examples, test, pad_id)
    truth, slices = examples.labels(test), np.array(examples.slices(test))
    checked = [batch for _, batch in batches_of(examples, probe, pad_id)]
    return StudentJudge(
        torch=score(_in_order(batches, logits), truth, slices),
        probe=Probe(
            batches=[(batch.input_ids_BT, batch.attention_mask_BT) for batch in checked],
            logits_NC=np.concatenate([logits(batch) for batch in checked]),
            labels=labels,
            max_tokens=space.job.data.max_tokens,
        ),
        _batches=batches,
        _labels=truth,
        _slices=slices,
    )


def score(logits_NC: Logits, labels: NDArray[np.int32], slices: NDArray[np.str_]) -> Scores:
    """Share of right answers in each slice, and the mean over slices, each counting the same."""
    if not len(labels):
        return Scores({}, 0.0, 0)
    right = logits_NC.argmax(-1) == labels
    by_slice = {str(part): float(right[slices == part].mean()) for part in in_order(slices)}
    return Scores(by_slice, float(np.mean(list(by_slice.values()))), len(labels))


def in_order(slices: NDArray[np.str_]) -> list[str]:
    """Each slice once, in the order of the job's sources."""
    return list(dict.fromkeys(slices.tolist()))


def _in_order(batches: list[tuple[Rows, Batch]], logits: Callable[[Batch], Logits]) -> Logits:
    """Logits [N, C] of all batches, each row at its place."""
    parts = [logits(batch) for _, batch in batches]
    if not parts:
        return np.empty((0, 0), np.float32)
    ordered_NC = np.empty((sum(len(part) for part in parts), parts[0].shape[1]), np.float32)
    for (places, _), part in zip(batches, parts, strict=True):
        ordered_NC[places] = part
    return ordered_NC


def _collect(stream: SignalStream, examples: Examples, rows: Rows, stage: Stage) -> Logits:
    batches = batches_of(examples, rows, pad_id=0)
    parts: list[Logits] = []
    for _, packets in stream.pair(batch for _, batch in batches):
        parts.append(np.stack([_logits(packet) for packet in packets]))
        stage.update(sum(part.shape[1] for part in parts), len(rows))
    collected_KNC = np.concatenate(parts, axis=1)
    ordered_KNC = np.empty_like(collected_KNC)
    ordered_KNC[:, np.concatenate([places for places, _ in batches])] = collected_KNC
    return ordered_KNC


def _logits(packet: Packet | None) -> Logits:
    """The values of a dense packet in fp32."""
    assert packet is not None, "judging does without no teacher"
    values: Logits = packet.columns["logits"].values
    return values


def _parity(asked: Asked, examples: Examples, probe: Rows) -> tuple[float, float]:
    """The same texts through the fleet and through a teacher in this process: largest logit difference."""
    worst, same = 0.0, 1.0
    for spec, channel in zip(asked.specs, asked.channels(), strict=True):
        replica = LocalReplica(Teacher(spec))
        local = TeacherChannel(spec.name, [replica], channel.spec, asked.space.job.stream)
        both = []
        for side in (channel, local):
            stream = asked.stream([side], {spec.name: MemoryStore()})
            pairs = stream.pair(batch for _, batch in batches_of(examples, probe, pad_id=0))
            both.append(np.concatenate([_logits(packet) for _, (packet,) in pairs]))
        worst = max(worst, float(np.abs(both[0] - both[1]).max(initial=0.0)))
        same = min(same, float((both[0].argmax(-1) == both[1].argmax(-1)).mean()))
    return worst, same
