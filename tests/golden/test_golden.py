"""The numbers of a tiny distillation and a tiny fine-tuning are those that were kept as text."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.golden.regenerate import HERE, differences

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]


def test_the_trajectories_are_golden() -> None:
    """Losses, parts and accuracies agree with the files, within the tolerance of `regenerate`."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "platform")])
    done = subprocess.run(
        [sys.executable, "-m", "tests.golden.regenerate", "--check"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert done.stdout.count("as golden") == 2


@pytest.mark.parametrize("name", ["distill", "finetune"])
def test_a_changed_number_is_seen(name: str) -> None:
    """One loss off by 0.1%, a missing step and another column are each a difference; 1e-5 is none."""
    text = (HERE / f"{name}.txt").read_text()
    lines = text.splitlines()
    step, loss, *rest = lines[3].split("\t")

    def with_loss(factor: float) -> str:
        changed = "\t".join([step, f"{float(loss) * factor:.8g}", *rest])
        return "\n".join([*lines[:3], changed, *lines[4:]])

    assert differences(text, text) == []
    assert differences(text, with_loss(1.00001)) == []
    assert len(differences(text, with_loss(1.001))) == 1
    assert differences(text, "\n".join(lines[:-1])) == [f"{len(lines) - 2} steps, golden {len(lines) - 1}"]
    assert "columns" in differences(text, text.replace("loss", "cost"))[0]
