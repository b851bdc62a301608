"""Importance measured as Ray tasks: the same bits for any number of workers, and nothing is made twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from actors.evaluate import student_examples
from actors.session import Session
from actors.update.importance import Measurement, chosen_rows, measure_importance, part
from tests.ray.train_samples import workspace
from tutelage.continual.importance import Importance
from tutelage.files import digest_file
from tutelage.progress import Silent

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def what(tmp_path_factory: pytest.TempPathFactory) -> Measurement:
    """160 rows: with parts of 64 the cut has three, the last one short."""
    space = workspace(tmp_path_factory.mktemp("importance"))
    examples = student_examples(space)
    folder = space.student.folder
    return Measurement(
        model=folder,
        digest=digest_file(Path(folder) / "model.safetensors"),
        task=space.job.task,
        examples=str(examples.path),
        rows=chosen_rows(examples.select("train").rows, 160, 1),
        kind="fisher",
        mode="sampled",
        seed=1,
        size=64,
    )


def alone(what: Measurement) -> Importance:
    torch.set_num_threads(1)
    total = part(what, 0)
    for index in range(1, what.parts):
        total = total + part(what, index)
    return total


def measured(what: Measurement, scratch: Path) -> Importance:
    with Silent().stage("remember") as stage:
        return measure_importance(what, scratch, stage)


def test_tasks_give_the_bits_of_one_process(cluster: Session, what: Measurement, tmp_path: Path) -> None:
    here, there = alone(what), measured(what, tmp_path)
    assert there.examples == here.examples == 160
    assert there.stamp == here.stamp == {"kind": "fisher", "mode": "sampled", "per": "sequence"}
    for name, value in here.sums.items():
        assert torch.equal(there.sums[name], value), name
    assert not list(tmp_path.iterdir())  # the parts are gone


def test_a_part_that_is_there_is_not_made_again(cluster: Session, what: Measurement, tmp_path: Path) -> None:
    """As after `kill -9` of the command: the first part was written, the others were not."""
    folder = tmp_path / f"importance-{what.identity}"
    folder.mkdir()
    first = part(what, 0)
    marked = Importance({n: v + 1 for n, v in first.sums.items()}, first.examples, first.stamp)
    marked.save(folder / "00000.safetensors")
    found, whole = measured(what, tmp_path), alone(what)
    for name, value in whole.sums.items():
        torch.testing.assert_close(found.sums[name], value + 1)


def test_another_seed_model_or_choice_of_rows_has_parts_of_its_own(what: Measurement) -> None:
    others: list[dict[str, Any]] = [{"seed": 2}, {"digest": "x"}, {"rows": what.rows[:-1]}, {"mode": "exact"}]
    names = {what.identity, *(replace(what, **other).identity for other in others)}
    assert len(names) == 5


def test_rows_are_chosen_alike_and_at_random() -> None:
    rows = np.arange(100, 400)
    chosen = chosen_rows(rows, 50, 3)
    assert chosen == chosen_rows(rows, 50, 3) != chosen_rows(rows, 50, 4)
    assert len(set(chosen)) == 50
    assert list(chosen) == sorted(chosen)
    assert chosen_rows(rows, 1000, 3) == tuple(range(100, 400))


def test_a_class_that_competes_with_none_makes_no_weight_important(what: Measurement) -> None:
    closed = part(replace(what, groups=(0, 1)), 0)
    assert not any(value.any() for value in closed.sums.values())
    assert any(value.any() for value in part(what, 0).sums.values())
