"""A teacher answers texts with logits in the order of the task, and echoes the batch.

Shapes: B batch, C classes.
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from actors.replica import LocalReplica, Pending, ReplicaFailedError, ReplicaLateError
from actors.teacher import Scorer, ScriptedTeacher, Teacher, TeacherSpec
from tutelage.config.task import SequenceClassification
from tutelage.errors import ModelError
from tutelage.models.load import load_classifier, load_tokenizer
from tutelage.signals.exchange import Reply, Request
from tutelage.signals.spec import PayloadSpec
from tutelage.testing import tiny_classifier, tiny_family, tiny_texts

pytestmark = pytest.mark.unit

TASK = SequenceClassification(labels=["bad", "fair", "good"])
LABELS = ["bad", "fair", "good"]
TEXTS = [row["text"] for row in tiny_texts(6, labels=LABELS)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_classifier(tmp_path_factory.mktemp("teacher") / "model", LABELS)


def spec(folder: str, order: tuple[int, ...] = (0, 1, 2), max_tokens: int = 32) -> TeacherSpec:
    return TeacherSpec("critic", folder, folder, order, max_tokens, threads=1, fingerprint="-", task=TASK)


def ask(teacher: Scorer, texts: list[str]) -> Reply:
    digests = [text.encode() for text in texts]
    ones_N = np.ones(len(texts), np.int32)
    request = Request(b"digest", digests, ones_N, PayloadSpec("dense", len(LABELS)), texts=texts)
    reply: Reply = LocalReplica(teacher).ask(request).take(1.0)
    return reply


def logits(reply: Reply) -> NDArray[np.float32]:
    values: NDArray[np.float32] = reply.packet.columns["logits"].values
    return values


def test_the_logits_are_those_of_the_model_and_the_reply_says_who_answered(folder: str) -> None:
    reply = ask(Teacher(spec(folder), 3), TEXTS)
    model, tokenizer = load_classifier(folder), load_tokenizer(folder)
    with torch.no_grad():
        expected_BC = model(**tokenizer(TEXTS, padding=True, return_tensors="pt")).logits.numpy()
    np.testing.assert_allclose(logits(reply), expected_BC, rtol=1e-5, atol=1e-6)
    assert logits(reply).dtype == np.float32
    assert logits(reply).flags.c_contiguous
    assert (reply.digest, reply.teacher, reply.replica) == (b"digest", "critic", "critic-3")
    assert reply.seconds > 0


@pytest.mark.parametrize(
    "family", ["bert", "xlnet", "convbert", "big_bird", "nystromformer", "gpt2-left", "qwen2-unnamed"]
)
def test_a_text_has_the_same_signal_alone_and_in_any_batch(tmp_path: Path, family: str) -> None:
    """Also where the architecture looks at padding; a short text changes nothing for those behind."""
    model = tiny_family(family, tmp_path / "m", LABELS)
    texts = [*TEXTS, "a", "the film was fine", " ".join(TEXTS)]
    teacher = Teacher(spec(model))
    together_BC = logits(ask(teacher, texts))
    alone_BC = np.concatenate([logits(ask(Teacher(spec(model)), [text])) for text in texts])
    np.testing.assert_allclose(together_BC, alone_BC, rtol=1e-4, atol=1e-4 * np.abs(alone_BC).max())
    np.testing.assert_array_equal(logits(ask(teacher, texts)), together_BC)


def test_the_columns_stand_in_the_order_of_the_task(folder: str) -> None:
    own = logits(ask(Teacher(spec(folder)), TEXTS))
    task = logits(ask(Teacher(spec(folder, (2, 0, 1))), TEXTS))
    assert np.array_equal(task, own[:, [2, 0, 1]])


def test_the_same_texts_give_the_same_bytes_from_two_replicas(folder: str) -> None:
    first, second = (logits(ask(Teacher(spec(folder), n), TEXTS)) for n in (0, 1))
    assert first.tobytes() == second.tobytes()


def test_a_text_beyond_max_tokens_is_cut(folder: str) -> None:
    teacher = Teacher(spec(folder, max_tokens=8))
    long = " ".join(TEXTS)
    cut = " ".join(long.split()[:6])  # and [CLS], [SEP]
    both = logits(ask(teacher, [long, cut]))
    assert np.array_equal(both[0], both[1])


def test_a_replica_says_what_it_is(folder: str) -> None:
    card = Teacher(spec(folder), 1).describe()
    assert card["replica"] == "critic-1"
    assert card["device"] == ("cuda" if torch.cuda.is_available() else "cpu")
    assert int(card["pid"]) > 0


def test_a_folder_without_a_model_is_an_error_that_names_it(tmp_path: Path, folder: str) -> None:
    with pytest.raises(ModelError, match=str(tmp_path / "none")):
        Teacher(replace(spec(folder), model=str(tmp_path / "none")))


def test_the_scripted_twin_answers_by_its_rule_and_faults_on_demand() -> None:
    def fault(call: int, reply: Reply) -> Reply:
        return replace(reply, digest=b"other") if call == 2 else reply

    teacher = ScriptedTeacher(lambda text: [float(len(text)), 0.0], "twin", fault)
    first, second = ask(teacher, ["ab", "c"]), ask(teacher, ["d"])
    assert logits(first).tolist() == [[2.0, 0.0], [1.0, 0.0]]
    assert logits(first).dtype == np.float32
    assert (first.digest, second.digest) == (b"digest", b"other")
    assert teacher.calls == 2
    assert teacher.describe()["replica"] == first.replica == "twin-0"


def test_what_a_local_replica_fails_with_is_told_when_its_answer_is_taken() -> None:
    """Nothing is raised where it is asked; the reason is the error's own."""

    def rule(text: str) -> list[float]:
        raise ModelError(f"cannot read '{text}'", fix="write something else")

    pending = LocalReplica(ScriptedTeacher(rule)).ask(
        Request(b"d", [b"a"], np.ones(1, np.int32), PayloadSpec("dense", 2), texts=["x"])
    )
    with pytest.raises(ReplicaFailedError, match=r"cannot read 'x'$"):
        pending.take(1.0)


def test_an_answer_that_does_not_come_is_called_off() -> None:
    called_off: list[bool] = []
    pending = Pending(Future(), lambda: called_off.append(True))
    with pytest.raises(ReplicaLateError, match=r"no answer within 0\.001 s"):
        pending.take(0.001)
    assert called_off == [True]
