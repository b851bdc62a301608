"""A fleet loads, answers as a local teacher does, and says why it cannot load.

Killed replicas are part of test_train_fit.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.distill import teacher_specs
from actors.fleet import Fleet
from actors.replica import LocalReplica
from actors.session import Session
from actors.teacher import Teacher
from tests.ray import train_samples as sample
from tutelage.errors import TeacherError
from tutelage.signals.exchange import Request
from tutelage.testing import tiny_texts

pytestmark = pytest.mark.ray

TEXTS = [row["text"] for row in tiny_texts(12)]


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The tokenised job."""
    return sample.workspace(tmp_path_factory.mktemp("fleet"))


def _request() -> Request:
    return Request(TEXTS, b"0123456789abcdef")


def test_a_fleet_answers_as_a_local_teacher(space: Any, cluster: Session) -> None:
    """Each replica of each teacher gives the logits of a teacher in this process, to the last bit."""
    with sample.running(sample.fleet(space, one=2)) as fleet:
        fleet.ready(60)
        for spec in teacher_specs(space, {}):
            local = LocalReplica(Teacher(spec)).ask(_request()).take(60).logits_BC
            for remote in fleet.replicas[spec.name]:
                reply = remote.ask(_request()).take(60)
                assert np.array_equal(reply.logits_BC, local)
                assert (reply.teacher, reply.replica) == (spec.name, remote.name)


def test_logits_stand_in_the_order_of_the_task(space: Any, cluster: Session) -> None:
    """Teacher `two` counts its classes the other way round; its columns are swapped on the way."""
    spec = teacher_specs(space, {})[1]
    assert spec.label_order == (1, 0)
    in_task_order = Teacher(spec).score(_request()).logits_BC
    in_own_order = Teacher(replace(spec, label_order=(0, 1))).score(_request()).logits_BC
    assert np.array_equal(in_task_order, in_own_order[:, ::-1])


def test_a_teacher_that_cannot_load_says_why(space: Any, cluster: Session, tmp_path: Path) -> None:
    """`ready` names the teacher's folder and the reason, long before its deadline."""
    spec = replace(teacher_specs(space, {})[0], model=str(tmp_path / "nothing"))
    begin = time.monotonic()
    with (
        sample.running(Fleet([(spec, space.job.teachers[0])])) as fleet,
        pytest.raises(TeacherError, match="nothing") as caught,
    ):
        fleet.ready(60)
    assert time.monotonic() - begin < 45
    assert "cannot be loaded" in caught.value.problem
