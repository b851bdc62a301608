"""A distillation that is stopped goes on where it was, and leaves no process behind.

The teachers come from the quickstart's home, and its distillation is the undisturbed one.
"""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import e2e_samples as sample
from tests.e2e.conftest import Story

pytestmark = pytest.mark.e2e

GONE_S = 90
"""Ray's agents notice a killed driver late, but they do notice."""


@pytest.fixture
def half(story: Story, cli: sample.Cli) -> tuple[sample.Cli, str]:
    """A home with fine-tuned teachers, in which nothing was distilled; and the distillation's run id."""
    assert story.first.code == 0, story.first.err[-3000:]
    run: str = story.first.json["run"]
    shutil.copytree(story.cli.home, cli.home)
    shutil.rmtree(cli.home / "runs" / run)
    shutil.rmtree(cli.home / "signals")
    return cli, run


def _checkpoints(folder: Path) -> list[Path]:
    """Whole checkpoints: the state file is written last but for Ray's own."""
    return sorted(path.parent for path in folder.glob("train/checkpoint_*/state.json"))


def _points(folder: Path) -> list[dict[str, Any]]:
    points: list[dict[str, Any]] = json.loads((folder / "model" / "result.json").read_text())["points"]
    return points


def test_stopped_by_ctrl_c_then_killed_then_finished(story: Story, half: tuple[sample.Cli, str]) -> None:
    """SIGINT ends with 130 and a message, SIGKILL with nothing; the third command gives the same losses."""
    cli, run = half
    folder = cli.home / "runs" / run
    stopped = cli.start("distill", story.job)
    sample.until(lambda: _checkpoints(folder), 90, "a first checkpoint")
    stopped.process.send_signal(signal.SIGINT)
    answer = stopped.finish(60)
    assert answer.code == 130, answer.err[-3000:]
    assert "stopped" in answer.err
    assert "Traceback" not in answer.err
    assert stopped.left() == []
    assert not (folder / "model").exists()

    seen = set(_checkpoints(folder))
    killed = cli.start("distill", story.job)
    sample.until(lambda: set(_checkpoints(folder)) - seen, 90, "a checkpoint of the second command")
    killed.process.kill()
    killed.process.wait()
    assert not (folder / "model").exists()

    # At once, while what the killed driver left is still ending.
    finished = cli.run("distill", story.job, "--json")
    assert finished.code == 0, finished.err[-3000:]
    assert finished.json["run"] == run
    (student,) = [row for row in finished.json["accuracy"] if row["kind"] == "student"]
    assert student["runtime"] == "torch"
    assert student["low"] < student["mean"] <= student["high"]
    assert _points(folder) == _points(story.cli.home / "runs" / run)
    runs = cli.run("runs", "show", run, "--json")
    assert '"done"' in runs.out
    said = cli.run("runs", "logs", run).out
    assert f"{run}: worker 1 of 1 begins at step 0 of " in said  # a worker's words, of the first command
    assert "interrupted" in said
    assert said.count(f"{run}: begun by process") == 3
    assert "is loaded after" in said  # a teacher's
    sample.until(lambda: not killed.left(), GONE_S, "the end of the killed driver's processes")
