"""Each task through trainer, stream, payload and teacher: the same numbers however a batch is split."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from actors.channel import TeacherChannel
from actors.replica import LocalReplica
from actors.stream import SignalStream
from actors.teacher import Teacher, TeacherSpec
from actors.trainer import Trainer
from actors.training import TrainState
from actors.worker import asker
from actors.world import Solo
from tests.unit.task_samples import TASKS, examples_of, side
from tests.unit.torch_engine import TorchEngine
from tests.unit.training_samples import Kept, Tiny, training
from tutelage.config.objectives import KL
from tutelage.config.train import TrainConfig
from tutelage.signals.spec import PayloadSpec
from tutelage.signals.store import MemoryStore
from tutelage.tasks import signal_width
from tutelage.testing import tiny_answers, tiny_completions, tiny_model, tiny_tagged

pytestmark = pytest.mark.unit

MAKERS: dict[str, Any] = {
    "token-classification": tiny_tagged,
    "question-answering": tiny_answers,
    "causal-lm": tiny_completions,
}
MAX_TOKENS = 14
"""Cuts some of the texts."""


@cache
def student_of(folder: Path, name: str) -> tuple[Any, Any]:
    """A student and its examples; some texts are longer than MAX_TOKENS."""
    one = side(folder / name, TASKS[name])
    return one, examples_of(folder / name / "data", TASKS[name], MAKERS[name](21), one.folder, MAX_TOKENS)


def losses(
    folder: Path, name: str, teacher: str | None = None, reads: int = MAX_TOKENS, **train: Any
) -> list[float]:
    """The loss of every step of a training that listens to one teacher; to itself when none is named."""
    one, examples = student_of(folder, name)
    section = TrainConfig(**({"batch_size": 8, "lr": 1e-3, "epochs": 2} | train))
    payload = PayloadSpec("dense", signal_width(one.section, examples.vocabulary))
    tiny = Tiny(folder, one.folder, str(examples.path))
    plan = training(
        tiny, task=one.section, train=section, objectives=[KL(type="kl")], payloads={"a": payload}
    )
    where = teacher or one.folder
    spec = TeacherSpec("a", where, where, (), reads, 1, "-", task=one.section)
    channel = TeacherChannel("a", [LocalReplica(Teacher(spec))], payload, plan.stream)
    stream = SignalStream([channel], {"a": MemoryStore()}, plan.stream, asker(plan, examples))
    engine = TorchEngine(one.kind.load(one.folder, dropout=0.0), section)
    state = TrainState()
    Trainer(plan, engine, examples, stream, Solo(), Kept(engine), pad_id=0).run(state)
    return [point["loss"] for point in state.points]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("training")


@pytest.mark.parametrize("name", TASKS)
def test_a_student_that_listens_to_itself_has_no_loss(folder: Path, name: str) -> None:
    assert losses(folder, name, max_steps=1)[0] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("name", TASKS)
def test_losses_are_the_same_for_any_micro_batch(folder: Path, name: str) -> None:
    """Micro-batches hold different numbers of positions; the sum counts each once."""
    other = tiny_model(folder / f"other-{name}", TASKS[name]["type"], TASKS[name].get("labels"), seed=9)
    whole = losses(folder, name, other)
    assert len(whole) == 6
    assert whole[0] > 1e-3
    assert whole[-1] < whole[0]
    for micro in (4, 1):
        assert losses(folder, name, other, micro_batch_size=micro) == pytest.approx(whole, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", ["token-classification", "question-answering"])
def test_a_teacher_with_a_tokenizer_of_its_own_can_be_listened_to(folder: Path, name: str) -> None:
    other = tiny_model(
        folder / f"bytes-{name}",
        TASKS[name]["type"],
        TASKS[name].get("labels"),
        tokenizer="bytes",
        positions=128,
        seed=9,
    )
    found = losses(folder, name, other, reads=128)
    assert len(found) == 6
    assert 1e-3 < found[-1] < found[0] < 50


def test_a_teacher_that_reads_no_whole_word_says_nothing(folder: Path) -> None:
    """14 bytes hold half of one, so no word is covered, and nothing is made up."""
    name = "question-answering"
    other = tiny_model(folder / "few-bytes", name, tokenizer="bytes", positions=128, seed=9)
    assert losses(folder, name, other) == [0.0] * 6
