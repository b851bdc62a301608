"""How good rows of logits are: sums over examples, and what they come to.

Every metric is a function of sums, so that batches, workers and slices add up to one number. Higher is
better for the primary metric of each task.

Shapes: B batch, P positions of all examples, V classes, W words of one example.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tutelage.config.task import CausalLM, QuestionAnswering, SequenceClassification, Task
from tutelage.data.batch import Batch
from tutelage.data.labels import UNLABELLED
from tutelage.data.words import split_words
from tutelage.tasks.chunks import chunks_of, is_chunked

Sums = dict[str, NDArray[np.float64]]
"""Name -> [B]; sums over examples of any batches may be added."""

MAX_ANSWER_WORDS = 30
_ARTICLES = re.compile(r"\b(a|an|the)\b")


@dataclass(frozen=True)
class Metrics:
    """What a model is worth on some examples."""

    values: dict[str, float]
    primary: str
    """The name by which models are compared; higher is better."""

    @property
    def score(self) -> float:
        """The primary value."""
        return self.values[self.primary]


def nll(logits_PV: Tensor, labels_P: Tensor) -> Tensor:
    """-log q(label) of each position, fp32 [P]; 0 where there is no label."""
    return torch.nn.functional.cross_entropy(
        logits_PV.float(), labels_P, ignore_index=UNLABELLED, reduction="none"
    )


def tally(task: Task, logits_PV: Tensor, labels_P: Tensor, examples_P: Tensor, batch: Batch) -> Sums:
    """What each example adds to the metrics; 0 where it has no label.

    Args:
        task: the job's.
        logits_PV: of the student, or of teachers placed at the student's positions.
        labels_P: -1 where there is none.
        examples_P: the example in B of each position.
        batch: the examples.
    """
    size = len(batch.rows)
    owner = examples_P.cpu().numpy()

    def total(values_P: Tensor) -> NDArray[np.float64]:
        return np.bincount(owner, values_P.cpu().double().numpy(), minlength=size).astype(np.float64)

    known_P = labels_P >= 0
    right_P = (logits_PV.argmax(-1) == labels_P) & known_P
    sums = {"nll": total(nll(logits_PV, labels_P)), "positions": total(known_P), "right": total(right_P)}
    if isinstance(task, QuestionAnswering):
        sums |= _answers(task, logits_PV.float().cpu().numpy(), batch)
    elif not isinstance(task, CausalLM | SequenceClassification) and is_chunked(task.labels):
        sums |= _chunks(task.labels, logits_PV.argmax(-1).cpu().numpy(), labels_P.cpu().numpy(), batch)
    return sums


def metrics(task: Task, sums: Mapping[str, float]) -> Metrics:
    """The metrics of all examples whose sums were added; NaN where nothing has a label."""
    mean_nll = _share(sums["nll"], sums["positions"])
    accuracy = _share(sums["right"], sums["positions"])
    if isinstance(task, QuestionAnswering):
        values = {name: _share(sums[name], sums["answered"]) for name in ("f1", "exact_match")}
        return Metrics({**values, "nll": mean_nll}, "f1")
    if isinstance(task, CausalLM):
        # exp overflows beyond 709 nats.
        return Metrics(
            {"accuracy": accuracy, "nll": mean_nll, "perplexity": math.exp(min(mean_nll, 700.0))}, "accuracy"
        )
    values = {"accuracy": accuracy, "nll": mean_nll}
    if "found" not in sums:
        return Metrics(values, "accuracy")
    precision = _share(sums["matched"], sums["found"], 0.0)
    recall = _share(sums["matched"], sums["gold"], 0.0)
    f1 = _share(2 * sums["matched"], sums["found"] + sums["gold"])
    return Metrics({"f1": f1, "precision": precision, "recall": recall, **values}, "f1")


def _share(part: float, whole: float, empty: float = math.nan) -> float:
    return float(part / whole) if whole else empty


def _chunks(
    labels: Sequence[str], predicted_P: NDArray[np.int64], labels_P: NDArray[np.int64], batch: Batch
) -> Sums:
    """Chunks of the right answer, of the prediction, and of both alike."""
    sums = {name: np.zeros(len(batch.rows)) for name in ("gold", "found", "matched")}
    stops = np.cumsum(batch.positions_B)
    for n, (start, stop) in enumerate(zip(stops - batch.positions_B, stops, strict=True)):
        truth = labels_P[start:stop]
        if (truth < 0).all():
            continue
        names = [[labels[i] if i >= 0 else "O" for i in truth]]
        names.append(
            [labels[i] if t >= 0 else "O" for i, t in zip(predicted_P[start:stop], truth, strict=True)]
        )
        gold, found = (chunks_of(tags) for tags in names)
        sums["gold"][n], sums["found"][n] = len(gold), len(found)
        sums["matched"][n] = len(gold & found)
    return sums


def _answers(task: QuestionAnswering, logits_PV: NDArray[np.float32], batch: Batch) -> Sums:
    """Exact match and F1 of the best passage, against the nearest of the right answers."""
    sums = {name: np.zeros(len(batch.rows)) for name in ("answered", "exact_match", "f1")}
    texts, answers, spans = batch.texts, batch.answers, batch.spans
    rows = iter(logits_PV.reshape(-1, 2, logits_PV.shape[1]))
    for n, count in enumerate(batch.positions_B):
        edges = next(rows) if count else None
        if batch.labels_B[n] == UNLABELLED:
            continue
        said = (
            "" if edges is None else best_passage(texts[n], spans[n], edges[0], edges[1], task.unanswerable)
        )
        right = answers[n] or [""]
        sums["answered"][n] = 1
        sums["exact_match"][n] = max(float(normalised(said) == normalised(text)) for text in right)
        sums["f1"][n] = max(word_f1(said, text) for text in right)
    return sums


def best_passage(
    text: str,
    spans: NDArray[np.int32],
    start_V: NDArray[np.float32],
    end_V: NDArray[np.float32],
    unanswerable: bool = False,
) -> str:
    """The passage of at most 30 words whose start and end logits sum highest; "" where none is better."""
    skip = int(unanswerable)
    words = len(spans)
    if words <= skip:
        return ""
    start, end = start_V[skip:words], end_V[skip:words]
    sums_WW = start[:, None] + end[None, :]
    allowed = np.triu(np.ones_like(sums_WW, bool)) & ~np.triu(np.ones_like(sums_WW, bool), MAX_ANSWER_WORDS)
    best = int(np.where(allowed, sums_WW, -np.inf).argmax())
    first, last = divmod(best, len(start))
    if unanswerable and start_V[0] + end_V[0] > sums_WW[first, last]:
        return ""
    return text[spans[first + skip, 0] : spans[last + skip, 1]]


def normalised(answer: str) -> str:
    """Lower case, without punctuation and English articles, single spaces (Rajpurkar et al. 2016)."""
    bare = "".join(sign for sign in answer.lower() if sign not in string.punctuation)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def word_f1(said: str, right: str) -> float:
    """Harmonic mean of precision and recall of words; of single characters in Kana and Han."""
    one, other = (Counter(split_words(normalised(text))) for text in (said, right))
    if not one or not other:
        return float(one == other)
    common = (one & other).total()
    return 2 * common / (one.total() + other.total())
