"""Judging teachers, ensembles and students on rows that no training saw.

Shapes: N examples, C classes, K teachers, B batch, T tokens.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from actors.replica import LocalReplica, Replica
from actors.stream import SignalStream, TeacherChannel
from actors.teacher import Teacher, TeacherSpec
from actors.workspace import Workspace, tokenizer_of
from tutelage.config.objectives import Combiner, Uniform
from tutelage.data.examples import Batch, Examples
from tutelage.models.load import load_classifier, load_tokenizer
from tutelage.objectives import build_combiner, mixture
from tutelage.progress import Stage
from tutelage.signals.exchange import Logits
from tutelage.signals.store import ArrowStore, MemoryStore

BATCH = 32
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


def judge_teachers(
    space: Workspace,
    specs: list[TeacherSpec],
    replicas: dict[str, list[Replica]],
    stores: dict[str, str],
    stage: Stage,
) -> Judgement:
    """Score the labelled test rows by the stream, and compare a few with a teacher in this process."""
    examples = student_examples(space)
    rows = labelled_rows(examples, "test")
    if not specs:
        return Judgement({}, None, None, {}, None, 1.0, 0)
    classes = len(space.job.task.labels)
    channels = [TeacherChannel(spec.name, replicas[spec.name], classes, space.job.stream) for spec in specs]
    stream = SignalStream(
        channels, {name: ArrowStore(Path(folder)) for name, folder in stores.items()}, space.job.stream
    )
    logits_KNC = _collect(stream, examples, rows, stage)
    stream.flush()
    probe = rows[np.argsort(examples.lengths(rows), kind="stable")][:PARITY_EXAMPLES]
    parity, same = _parity(space, specs, channels, examples, probe)
    slices, labels = np.array(examples.slices(rows)), examples.labels(rows)
    teachers = {spec.name: score(logits_KNC[k], labels, slices) for k, spec in enumerate(specs)}
    names = [spec.name for spec in specs]
    weights_KN = build_combiner(space.job.combiner, names).weights(torch.from_numpy(logits_KNC)).numpy()
    return Judgement(
        teachers=teachers,
        uniform=score(_mixed(Uniform(), names, logits_KNC), labels, slices),
        combined=score(_mixed(space.job.combiner, names, logits_KNC), labels, slices),
        weights={
            part: {name: float(weights_KN[k, slices == part].mean()) for k, name in enumerate(names)}
            for part in sorted(set(slices))
        },
        parity=parity,
        parity_same_label=same,
        parity_examples=len(probe),
    )


def student_examples(space: Workspace) -> Examples:
    """The job's rows, tokenised for the student."""
    return Examples.open(space.tokens_of(tokenizer_of(space.job.student.tokenizer, space.student, space.home)))


def labelled_rows(examples: Examples, split: str) -> Rows:
    """Rows of a split that have a label."""
    chosen = examples.select(split)
    rows: Rows = chosen.rows[chosen.labelled]
    return rows


def batches_of(examples: Examples, rows: Rows, pad_id: int) -> list[tuple[Rows, Batch]]:
    """Batches of similar length; with each, the places of its rows in `rows`."""
    order = np.argsort(examples.lengths(rows), kind="stable")
    places = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    return [(place, examples.batch(rows[place], np.ones(len(place), bool), pad_id)) for place in places]


def predict(folder: Path, labels: list[str], batches: list[tuple[Rows, Batch]], threads: int) -> Logits:
    """Logits [N, C] of a torch model folder."""
    torch.set_num_threads(threads)
    model = load_classifier(folder, labels)
    count = sum(len(places) for places, _ in batches)
    logits_NC = np.empty((count, len(labels)), np.float32)
    with torch.inference_mode():
        for places, batch in batches:
            tokens = torch.from_numpy(batch.input_ids_BT), torch.from_numpy(batch.attention_mask_BT)
            logits_NC[places] = model(input_ids=tokens[0], attention_mask=tokens[1]).logits.numpy()
    return logits_NC


def score(logits_NC: Logits, labels: NDArray[np.int32], slices: NDArray[np.str_]) -> Scores:
    """Share of right answers in each slice, and the mean over slices, each counting the same."""
    right = logits_NC.argmax(-1) == labels
    by_slice = {str(part): float(right[slices == part].mean()) for part in sorted(set(slices))}
    return Scores(by_slice, float(np.mean(list(by_slice.values()))) if by_slice else 0.0, len(labels))


def pad_of(folder: str) -> int:
    """The padding token of a tokenizer folder."""
    return load_tokenizer(folder).pad_token_id or 0


def _collect(stream: SignalStream, examples: Examples, rows: Rows, stage: Stage) -> Logits:
    batches = batches_of(examples, rows, pad_id=0)
    parts: list[Logits] = []
    for batch, logits_KBC in stream.pair(batch for _, batch in batches):
        assert logits_KBC is not None
        parts.append(logits_KBC)
        stage.update(sum(part.shape[1] for part in parts), len(rows))
    collected_KNC = np.concatenate(parts, axis=1)
    ordered_KNC = np.empty_like(collected_KNC)
    ordered_KNC[:, np.concatenate([places for places, _ in batches])] = collected_KNC
    return ordered_KNC


def _parity(
    space: Workspace, specs: list[TeacherSpec], channels: list[TeacherChannel], examples: Examples, probe: Rows
) -> tuple[float, float]:
    """The same texts through the fleet and through a teacher in this process: largest logit difference."""
    classes = len(space.job.task.labels)
    worst, same = 0.0, 1.0
    for spec, channel in zip(specs, channels, strict=True):
        local = TeacherChannel(spec.name, [LocalReplica(Teacher(spec))], classes, space.job.stream)
        both = []
        for side in (channel, local):
            stream = SignalStream([side], {spec.name: MemoryStore()}, space.job.stream)
            pairs = stream.pair(batch for _, batch in batches_of(examples, probe, pad_id=0))
            both.append(np.concatenate([logits[0] for _, logits in pairs if logits is not None]))
        worst = max(worst, float(np.abs(both[0] - both[1]).max(initial=0.0)))
        same = min(same, float((both[0].argmax(-1) == both[1].argmax(-1)).mean()))
    return worst, same


def _mixed(combiner: Combiner, names: list[str], logits_KNC: Logits) -> Logits:
    teachers_KNC = torch.from_numpy(logits_KNC)
    probabilities: Logits = mixture(teachers_KNC, build_combiner(combiner, names).weights(teachers_KNC)).numpy()
    return probabilities
