"""A teacher behind a real server gives what the same folder gives in this process.

The server is ours; that others speak the same protocol is not covered here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from actors.remote.setup import check_payload, remote_spec
from actors.scorer import make_scorer
from actors.teacher import Teacher, TeacherSpec
from tests.e2e import remote_process
from tests.unit.remote_samples import ids_request, texts_request
from tutelage.config.models import TeacherConfig
from tutelage.config.task import CausalLM, SequenceClassification
from tutelage.errors import TeacherError
from tutelage.models.load import load_tokenizer
from tutelage.signals.payloads import decode, fault
from tutelage.signals.spec import PayloadSpec
from tutelage.testing import LABELS, tiny_model, tiny_texts

pytestmark = pytest.mark.e2e

LM = CausalLM(type="causal-lm")
CLASSES = SequenceClassification(labels=list(LABELS))
K = 8


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A causal-lm and a classifier."""
    folder = tmp_path_factory.mktemp("served")
    return (
        tiny_model(folder / "lm", "causal-lm", tokenizer="bytes"),
        tiny_model(folder / "classifier", "sequence-classification", list(LABELS)[::-1]),
    )


@pytest.fixture(scope="module")
def server(folders: tuple[str, str]) -> Iterator[str]:
    """A server of both that is busy at every third question."""
    lm, classifier = folders
    with remote_process.serving("--lm", lm, "--classifier", classifier, "--busy-every", "3") as url:
        yield url


def lm_spec(url: str, tokenizer: str, model: str = "lm", **keys: Any) -> TeacherSpec:
    """The causal-lm behind the server."""
    remote = {"type": "openai", "url": url, **keys}
    config = TeacherConfig.model_validate(
        {"name": "big", "model": model, "tokenizer": "x", "num_cpus": 0.1, "remote": remote}
    )
    return remote_spec(config, LM, tokenizer=tokenizer, max_tokens=64, deadline_s=120)


def local_spec(folder: str, task: Any, order: tuple[int, ...] = ()) -> TeacherSpec:
    """The same folder as a teacher in this process."""
    return TeacherSpec("big", folder, folder, order, 64, 1, "", task)


def texts(folder: str) -> list[list[int]]:
    """Token ids of different lengths; one text without a position."""
    words = load_tokenizer(folder)
    rows = [row["text"][:50] for row in tiny_texts(6)]
    return [*words(rows)["input_ids"], [9]]


@pytest.mark.parametrize("model", ["lm", "lm-echo"])
def test_top_k_of_a_server_is_that_of_the_folder(model: str, server: str, folders: tuple[str, str]) -> None:
    lm, _ = folders
    spec = lm_spec(server, lm, model, batch=4)
    payload = PayloadSpec("topk", len(load_tokenizer(lm)), entries=K)
    check_payload(spec, payload, lm)
    request = ids_request(texts(lm), payload)
    replies = [make_scorer(spec).score(request), Teacher(local_spec(lm, LM)).score(request)]
    assert [fault(request, reply) for reply in replies] == [None, None]
    remote, local = (decode(payload, reply.packet, None, "cpu") for reply in replies)
    assert replies[0].packet.lengths_N.tolist() == replies[1].packet.lengths_N.tolist()
    assert float((remote.log_p_Rk - local.log_p_Rk).abs().max()) < 1e-5
    assert (remote.values == local.values).float().mean() > 0.99


def test_logits_of_a_v2_server_are_those_of_the_folder(server: str, folders: tuple[str, str]) -> None:
    """The server's classes stand the other way round."""
    _, classifier = folders
    remote = {"type": "oip", "url": server, "batch": 5}
    config = TeacherConfig.model_validate(
        {"name": "judge", "model": "classifier", "labels": list(LABELS)[::-1], "remote": remote}
    )
    spec = remote_spec(config, CLASSES, tokenizer="", max_tokens=64, deadline_s=120)
    payload = PayloadSpec("dense", len(LABELS))
    check_payload(spec, payload, classifier)
    request = texts_request([row["text"] for row in tiny_texts(12)], payload)
    served = make_scorer(spec).score(request)
    local = Teacher(local_spec(classifier, CLASSES, (1, 0))).score(request)
    assert fault(request, served) is None
    gap = served.packet.columns["logits"].values - local.packet.columns["logits"].values
    assert np.abs(gap).max() < 1e-5


def test_the_servers_limit_is_found_before_training(server: str, folders: tuple[str, str]) -> None:
    lm, _ = folders
    payload = PayloadSpec("topk", len(load_tokenizer(lm)), entries=100)
    with pytest.raises(TeacherError, match="greater than max allowed: 64"):
        check_payload(lm_spec(server, lm), payload, lm)


def test_a_server_that_dies_is_an_error_and_one_that_comes_back_is_asked_again(
    folders: tuple[str, str],
) -> None:
    """The connection that was kept open is dead; the client opens another."""
    lm, _ = folders
    process, port = remote_process.start("--lm", lm)
    url = f"http://127.0.0.1:{port}"
    payload = PayloadSpec("topk", len(load_tokenizer(lm)), entries=K)
    request = ids_request(texts(lm), payload)
    try:
        scorer = make_scorer(lm_spec(url, lm, retries=1))
        before = scorer.score(request).packet
        remote_process.end(process)
        with pytest.raises(TeacherError, match=rf"{url}/v1/completions: no answer in 2 attempts"):
            scorer.score(request)
        process, _ = remote_process.start("--lm", lm, "--port", str(port))
        after = scorer.score(request).packet
        assert np.array_equal(after.columns["log_p"].values, before.columns["log_p"].values)
    finally:
        remote_process.end(process)
