"""Judging the student on rows that no training saw, in torch and as ONNX files.

Shapes: N rows, C classes, B batch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from actors.engine import inputs_of
from actors.evaluate import Rows, batches_of, first_rows, labelled_rows, student_examples
from actors.tally import Scores, Tally, in_order
from actors.workspace import Workspace
from tutelage.data.examples import Batch, Examples
from tutelage.export.session import OnnxClassifier
from tutelage.export.student import Probe
from tutelage.models.load import load_tokenizer
from tutelage.models.padding import settle_padding
from tutelage.tasks import build_task

PROBE_EXAMPLES = 1000
"""Validation rows on which exports are compared with torch."""


@dataclass(frozen=True)
class StudentJudge:
    """A student's model, to be scored on the labelled test rows of its job."""

    space: Workspace
    folder: Path
    examples: Examples
    pad_id: int
    _run: Callable[[Batch], Any]
    sources: Sequence[str] | None = None
    """Whose test rows count; all when None."""

    def scores(self) -> Scores:
        """The torch model on the test rows."""
        return self._score(self._run)

    def onnx(self, path: Path) -> Scores:
        """The same rows through an ONNX file of a classifier."""
        session = OnnxClassifier(path, threads=torch.get_num_threads())

        def run(batch: Batch) -> Any:
            logits_BC = session.logits(batch.input_ids_BT, batch.attention_mask_BT)
            return SimpleNamespace(logits=torch.from_numpy(logits_BC))

        return self._score(run)

    def probe(self) -> Probe:
        """Rows, and the torch classifier's logits, that exports must agree with."""
        rows = first_rows(self.examples, "validation", "test", "train")[:PROBE_EXAMPLES]
        batches = list(batches_of(self.examples, rows, self.pad_id))
        return Probe(
            batches=[(batch.input_ids_BT, batch.attention_mask_BT) for batch in batches],
            logits_NC=np.concatenate([self._run(batch).logits.numpy() for batch in batches]),
            labels=self.space.job.task.labels,
            max_tokens=self.space.job.data.max_tokens,
            texts=[text for batch in batches for text in batch.texts],
        )

    def _score(self, run: Callable[[Batch], Any]) -> Scores:
        rows: Rows = labelled_rows(self.examples, "test", self.sources)
        task = self.space.job.task
        kind, tally = build_task(task), Tally(task)
        for batch in batches_of(self.examples, rows, self.pad_id):
            at = kind.student(run(batch), batch)
            tally.add(at.logits_PV, at, batch, self.examples.slices(batch.rows))
        return tally.scores(in_order(self.examples.slices(rows)))


def judge_student(
    space: Workspace, folder: Path, examples: Examples | None = None, sources: Sequence[str] | None = None
) -> StudentJudge:
    """Load a trained student; or another model of the task, with rows in its own tokens."""
    torch.set_num_threads(os.cpu_count() or 1)
    model = build_task(space.job.task).load(str(folder))

    def run(batch: Batch) -> Any:
        with torch.inference_mode():
            return model(**inputs_of(batch, model))

    rows = student_examples(space) if examples is None else examples
    pad_id = settle_padding(model, load_tokenizer(folder))
    return StudentJudge(space, folder, rows, pad_id, run, sources)
