"""A teacher answers texts with logits in the order of the task, and echoes the batch.

Shapes: B batch, C classes.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from actors.replica import LocalReplica
from actors.teacher import Scorer, ScriptedTeacher, Teacher, TeacherSpec
from tutelage.errors import ModelError
from tutelage.models.load import load_classifier, load_tokenizer
from tutelage.signals.exchange import Reply, Request
from tutelage.testing import tiny_classifier, tiny_texts

pytestmark = pytest.mark.unit

LABELS = ["bad", "fair", "good"]
TEXTS = [row["text"] for row in tiny_texts(6, labels=LABELS)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_classifier(tmp_path_factory.mktemp("teacher") / "model", LABELS)


def spec(folder: str, order: tuple[int, ...] = (0, 1, 2), max_tokens: int = 32) -> TeacherSpec:
    return TeacherSpec("critic", folder, folder, order, max_tokens, threads=1, fingerprint="-")


def ask(teacher: Scorer, texts: list[str]) -> Reply:
    return LocalReplica(teacher).ask(Request(texts, b"digest")).take(1.0)


def test_the_logits_are_those_of_the_model_and_the_reply_says_who_answered(folder: str) -> None:
    reply = ask(Teacher(spec(folder), 3), TEXTS)
    model, tokenizer = load_classifier(folder), load_tokenizer(folder)
    with torch.no_grad():
        expected_BC = model(**tokenizer(TEXTS, padding=True, return_tensors="pt")).logits.numpy()
    np.testing.assert_allclose(reply.logits_BC, expected_BC, rtol=1e-5, atol=1e-6)
    assert reply.logits_BC.dtype == np.float32
    assert reply.logits_BC.flags.c_contiguous
    assert (reply.digest, reply.teacher, reply.replica) == (b"digest", "critic", "critic-3")
    assert reply.seconds > 0


def test_the_columns_stand_in_the_order_of_the_task(folder: str) -> None:
    own = ask(Teacher(spec(folder)), TEXTS).logits_BC
    task = ask(Teacher(spec(folder, (2, 0, 1))), TEXTS).logits_BC
    assert np.array_equal(task, own[:, [2, 0, 1]])


def test_the_same_texts_give_the_same_bytes_from_two_replicas(folder: str) -> None:
    first, second = (ask(Teacher(spec(folder), n), TEXTS).logits_BC for n in (0, 1))
    assert first.tobytes() == second.tobytes()


def test_a_text_beyond_max_tokens_is_cut(folder: str) -> None:
    teacher = Teacher(spec(folder, max_tokens=8))
    long = " ".join(TEXTS)
    cut = " ".join(long.split()[:6])  # and [CLS], [SEP]
    both = ask(teacher, [long, cut]).logits_BC
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
    assert first.logits_BC.tolist() == [[2.0, 0.0], [1.0, 0.0]]
    assert first.logits_BC.dtype == np.float32
    assert (first.digest, second.digest) == (b"digest", b"other")
    assert teacher.calls == 2
    assert teacher.describe()["replica"] == first.replica == "twin-0"
