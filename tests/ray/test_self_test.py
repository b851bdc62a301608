"""`distill --self-test`: the student as its own teacher through fleet, payload and store, and its report."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from actors.distill import student_training, teacher_specs
from actors.self_test import SelfTest, self_test
from actors.session import Session
from tests.ray import train_samples as sample
from tutelage.cli.self_test import write_self_test
from tutelage.progress import Silent
from tutelage.report.write import read_report

pytestmark = pytest.mark.ray


def test_a_student_differs_by_nothing_from_itself(cluster: Session, tmp_path: Path) -> None:
    """Divergence and gradient are below 1e-6 on all logits in fp32, and the report says so."""
    space = sample.workspace(tmp_path)
    training = student_training(space, teacher_specs(space, {}), "self-test", str(space.home), {})
    with Silent().stage("self-test") as stage:
        (found,) = self_test(space, training, stage)
    assert (found.payload, found.passed) == ("dense-fp32-v2", True)
    assert found.positions > 0
    assert 0 <= found.kl < 1e-6
    assert found.gradient is not None
    assert found.gradient < 1e-6
    job: Any = SimpleNamespace(yaml="name: tiny\n")
    other = SelfTest("sampled-12", 64, 0.5, None, 0.01)
    page = write_self_test(job, space, [found, other], command="tutelage distill x", began=time.monotonic())
    told = read_report(page.parent).self_tests
    assert [(one.payload, one.passed) for one in told] == [(found.payload, True), ("sampled-12", False)]
    assert "as its own teacher" in page.read_text(encoding="utf-8")
