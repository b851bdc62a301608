"""A tiny model of each task learns its tiny rows, through positions, labels and metrics together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.unit.task_samples import TASKS, batch_of, examples_of, in_order, inputs_of, side
from tutelage.tasks.metrics import Metrics, metrics, tally
from tutelage.testing import tiny_answers, tiny_completions, tiny_tagged

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("name", "make", "reached"),
    [
        ("token-classification", tiny_tagged, 0.95),
        ("question-answering", tiny_answers, 0.95),
        # The length of a text is random, so its end cannot be known.
        ("causal-lm", tiny_completions, 0.75),
    ],
)
def test_a_tiny_model_learns_its_rows_in_80_steps(
    tmp_path: Path, name: str, make: Any, reached: float
) -> None:
    one = side(tmp_path, TASKS[name], hidden=32)
    examples = examples_of(tmp_path / "d", TASKS[name], make(250), one.folder)
    rows = in_order(examples)

    def score() -> Metrics:
        batch = batch_of(examples, rows[200:])
        said = one.study(batch)
        sums = tally(one.section, said.logits_PV, said.labels_P, said.examples_P, batch)
        return metrics(one.section, {key: float(values.sum()) for key, values in sums.items()})

    before = score()
    optimizer = torch.optim.AdamW(one.model.parameters(), lr=5e-3)
    draw = np.random.default_rng(0)
    for _ in range(80):
        batch = batch_of(examples, draw.choice(rows[:200], 16, replace=False))
        said = one.kind.student(one.model(**inputs_of(batch)), batch)
        loss = torch.nn.functional.cross_entropy(said.logits_PV, said.labels_P, ignore_index=-1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert before.score < 0.5
    assert score().score > reached
