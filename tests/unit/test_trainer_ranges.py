"""Trainings over the range of class counts, batch sizes, micro-batches and workers, not at chosen points.

Shapes: C classes.
"""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.data_samples import job
from tests.unit.tolerances import SUMMED
from tests.unit.torch_engine import ThreadWorld, in_threads
from tests.unit.training_samples import Session, Tiny, session
from tutelage.config.task import SequenceClassification
from tutelage.data.rows import read_rows
from tutelage.data.tokens import tokenise
from tutelage.models.load import load_classifier
from tutelage.testing import tiny_classifier

pytestmark = pytest.mark.unit

ROWS = 13
"""A prime: no batch size divides it, so every last batch is short."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranges")


@cache
def made(folder: Path, classes: int) -> tuple[Tiny, list[str]]:
    """A student and rows with so many classes."""
    place = folder / str(classes)
    labels = [f"c{n}" for n in range(classes)]
    student = tiny_classifier(place / "student", labels, layers=1, hidden=8, seed=1)
    path = place / "rows.jsonl"
    rows = [f'{{"text": "text {n} of c{n % classes}", "label": "c{n % classes}"}}\n' for n in range(ROWS)]
    path.write_text("".join(rows))
    sources = {"one": {"path": str(path), "split": "train"}}
    found = read_rows(job(sources, labels=labels), place)
    return Tiny(place, student, str(tokenise(found, student, 16, place))), labels


@cache
def loaded(student: str) -> Any:
    return load_classifier(student, dropout=0.0)


@given(
    classes=st.sampled_from([2, 13, 40]),
    per_worker=st.integers(1, 8),
    workers=st.integers(1, 3),
    data=st.data(),
)
@settings(max_examples=6, deadline=None)
def test_any_number_of_classes_rows_and_workers_gives_the_losses_of_one_worker(
    folder: Path, classes: int, per_worker: int, workers: int, data: st.DataObject
) -> None:
    """Also a batch of one, a worker without a row in the last batch, more classes than rows."""
    micro = data.draw(st.sampled_from([m for m in range(1, per_worker + 1) if per_worker % m == 0]))
    tiny, labels = made(folder, classes)
    size = per_worker * workers

    def run(world: ThreadWorld | None, **train: Any) -> Session:
        task = SequenceClassification(labels=labels)
        section = {"batch_size": size, "epochs": 1, "max_steps": 3, **train}
        model = copy.deepcopy(loaded(tiny.student))
        one = session(tiny, world=world, train=section, task=task, model=model)
        one.run()
        return one

    alone = run(None)
    assert len(alone.losses) == min(3, -(-ROWS // size))
    for rank in in_threads(workers, lambda world: run(world, workers=workers, micro_batch_size=micro)):
        assert rank.losses == pytest.approx(alone.losses, rel=SUMMED)
