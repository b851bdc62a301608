"""Teachers of every task are judged by its own metrics, as the student is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from actors.distill import teacher_specs
from actors.evaluate import Asked, judge_teachers, judgeable, measure_teachers
from actors.judge_student import judge_student
from actors.members import FixedMembers
from actors.replica import LocalReplica
from actors.teacher import Teacher
from actors.workspace import Workspace
from tests.unit.task_jobs import TASKS, task_space
from tutelage.config.remote import OpenAIRemote
from tutelage.errors import ConfigError

pytestmark = pytest.mark.unit

METRIC = {
    "sequence-classification": "accuracy",
    "token-classification": "f1",
    "question-answering": "f1",
    "causal-lm": "accuracy",
}


class Quiet:
    """A stage that nobody looks at."""

    def update(self, done: float, total: float, **figures: float | str) -> None:
        assert 0 <= done <= total

    def note(self, text: str) -> None:
        pass


@pytest.fixture(autouse=True)
def _one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 1)


def asked_of(space: Workspace, signals: Path) -> Asked:
    specs = teacher_specs(space, {})
    members: Any = {spec.name: FixedMembers([LocalReplica(Teacher(spec))]) for spec in specs}
    return Asked(space, specs, members, signals)


@pytest.mark.parametrize("task", TASKS)
def test_a_teacher_that_is_the_student_has_the_students_scores(tmp_path: Path, task: str) -> None:
    """By the stream and by the model alone, to the last bit of every metric; parity is exact."""
    space = task_space(tmp_path, task)
    first = space.job.teachers[0]
    asked = asked_of(space, tmp_path / "signals")
    found = judge_teachers(asked, measure_teachers(asked, Quiet()) if task != "causal-lm" else {}, Quiet())
    alone = judge_student(space, Path(first.model)).scores()
    judged = found.teachers[first.name]
    assert judged.metric == alone.metric == METRIC[task]
    assert judged.examples == alone.examples > 0
    assert judged.values == pytest.approx(alone.values, rel=1e-5)
    assert judged.by_slice == pytest.approx(alone.by_slice)
    assert found.parity == 0.0
    assert found.parity_same_label == 1.0
    assert found.uniform is not None
    assert sum(found.weights["books"].values()) == pytest.approx(1)


def test_a_vocabularys_logits_are_not_kept(tmp_path: Path) -> None:
    asked = asked_of(task_space(tmp_path, "causal-lm"), tmp_path / "signals")
    judge_teachers(asked, {}, Quiet())
    assert not list((tmp_path / "signals").rglob("*.arrow"))


def test_a_completions_server_is_left_out_of_what_needs_all_logits(tmp_path: Path) -> None:
    space = task_space(tmp_path, "causal-lm")
    specs = teacher_specs(space, {})
    server = replace(specs[1], remote=OpenAIRemote(type="openai", url="http://127.0.0.1:1"))
    assert judgeable([specs[0], server]) == specs[:1]
    half = replace(asked_of(space, tmp_path / "signals"), specs=specs[:1])
    found = judge_teachers(half, {}, Quiet())
    assert list(found.teachers) == ["t0"]
    assert (found.uniform, found.combined, found.weights) == (None, None, {})
    with pytest.raises(ConfigError, match="t1 cannot give them"):
        measure_teachers(half, Quiet())
