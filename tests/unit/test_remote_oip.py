"""A classifier behind the Open Inference Protocol: rows in the task's order of labels, or an error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from actors.remote.teacher import RemoteTeacher
from tests.unit import remote_samples as sample
from tutelage.errors import ConfigError, TeacherError
from tutelage.signals.exchange import Request
from tutelage.signals.payloads import fault
from tutelage.signals.spec import PayloadSpec

pytestmark = pytest.mark.unit

TEXTS = ["a good film", "bad", "naïve \U0001f600 日本"]
DENSE = PayloadSpec("dense", 3)
TOKENS = [
    {"name": "input_ids", "datatype": "INT64", "shape": [-1, -1]},
    {"name": "attention_mask", "datatype": "INT64", "shape": [-1, -1]},
]


def teacher(served: sample.V2, tokenizer: str = "", **remote: Any) -> RemoteTeacher:
    """A client of the server."""
    spec = sample.oip_spec(tokenizer, **remote)
    return RemoteTeacher(spec, 0, transport=httpx.MockTransport(served))


def logits(served: sample.V2, request: Request | None = None, **remote: Any) -> Any:
    """The dense rows of a good reply."""
    request = request or sample.texts_request(TEXTS, DENSE)
    reply = teacher(served, **remote).score(request)
    assert fault(request, reply) is None
    return reply.packet.columns["logits"].values


def in_task_order(keys: list[str]) -> np.ndarray:
    """The server counts (positive, other, negative): its third column is the task's first label."""
    return np.array([sample.row(key) for key in keys])[:, [2, 0, 1]].astype(np.float32)


def test_texts_go_in_and_columns_stand_in_the_order_of_the_task() -> None:
    served = sample.V2()
    assert np.array_equal(logits(served), in_task_order(TEXTS))
    tensor = served.asked[0]["inputs"][0]
    assert (tensor["shape"], tensor["datatype"], tensor["data"]) == ([3, 1], "BYTES", TEXTS)


def test_a_flat_tensor_of_texts_is_flat() -> None:
    served = sample.V2(inputs=[{"name": "words", "datatype": "BYTES", "shape": [-1]}])
    logits(served)
    assert served.asked[0]["inputs"][0]["shape"] == [3]
    assert served.asked[0]["inputs"][0]["name"] == "words"


def test_token_ids_go_in_where_the_model_wants_them(tmp_path: Path) -> None:
    """Padding changes nothing: a row depends on its own tokens."""
    served = sample.V2(inputs=TOKENS)
    folder = sample.byte_tokenizer_in(tmp_path)
    together = logits(served, tokenizer=folder)
    assert served.asked[0]["inputs"][0]["shape"][1] % 8 == 0
    for n, text in enumerate(TEXTS):
        alone = logits(served, sample.texts_request([text], DENSE), tokenizer=folder)
        assert np.array_equal(alone[0], together[n])
    assert not np.array_equal(together[0], together[1])


@pytest.mark.parametrize("limit", [3, 5, 7, 8, 9, 13])
def test_token_ids_are_cut_at_any_limit(tmp_path: Path, limit: int) -> None:
    served = sample.V2(inputs=TOKENS)
    spec = replace(sample.oip_spec(sample.byte_tokenizer_in(tmp_path)), max_tokens=limit)
    client = RemoteTeacher(spec, 0, transport=httpx.MockTransport(served))
    client.score(sample.texts_request(["word " * 9, "two"], DENSE))
    assert [tensor["shape"] for tensor in served.asked[0]["inputs"]] == [[2, limit], [2, limit]]


def test_token_ids_without_a_tokenizer_are_refused() -> None:
    with pytest.raises(ConfigError, match="takes token ids, and teachers"):
        teacher(sample.V2(inputs=TOKENS))


def test_probabilities_become_logits_with_the_same_softmax() -> None:
    rows = logits(sample.V2(probabilities=True), values="probabilities")
    wanted = np.exp(in_task_order(TEXTS))
    assert np.exp(rows) == pytest.approx(wanted / wanted.sum(1, keepdims=True), abs=1e-6)


def test_a_probability_of_zero_stays_finite() -> None:
    def rounded(answer: dict[str, Any]) -> dict[str, Any]:
        answer["outputs"][0]["data"] = [1.0, 0.0, 0.0] * 3
        return answer

    rows = logits(sample.V2(change=rounded), values="probabilities")
    assert np.exp(rows).tolist() == [[pytest.approx(v, abs=1e-30) for v in (0, 1, 0)]] * 3


def test_probabilities_taken_for_logits_are_seen_by_the_probe() -> None:
    with pytest.raises(TeacherError, match="probabilities and not logits") as error:
        teacher(sample.V2(probabilities=True)).probe(DENSE)
    assert error.value.fix == "write remote.values: probabilities"
    teacher(sample.V2()).probe(DENSE)
    teacher(sample.V2(probabilities=True), values="probabilities").probe(DENSE)


def test_logits_taken_for_probabilities_are_refused() -> None:
    with pytest.raises(TeacherError, match="are no probabilities: they hold"):
        logits(sample.V2(), values="probabilities")


@pytest.mark.parametrize("kind", ["dense", "topk", "sampled"])
def test_every_payload_of_a_classifier_is_packed(kind: Any) -> None:
    spec = PayloadSpec(kind, 3, entries=0 if kind == "dense" else 2)
    request = sample.texts_request(TEXTS, spec)
    assert fault(request, teacher(sample.V2()).score(request)) is None


def test_a_large_question_is_sent_in_parts_with_names_of_their_own() -> None:
    served = sample.V2()
    assert np.array_equal(logits(served, batch=2), in_task_order(TEXTS))
    digest = sample.texts_request(TEXTS, DENSE).digest.hex()
    assert [body["id"] for body in served.asked] == [f"{digest}-0", f"{digest}-2"]


def test_nested_data_and_a_silent_id_are_understood() -> None:
    def nested(answer: dict[str, Any]) -> dict[str, Any]:
        output = answer["outputs"][0]
        output["data"] = [output["data"][n : n + 3] for n in range(0, 9, 3)]
        del answer["id"], answer["model_version"]
        return answer

    assert np.array_equal(logits(sample.V2(change=nested)), in_task_order(TEXTS))


def test_the_version_is_part_of_the_path() -> None:
    served = sample.V2()
    logits(served, version="1")
    assert served.paths[-1] == "/v2/models/sentiment/versions/1/infer"


def _output(**changed: Any) -> Callable[[dict[str, Any]], Any]:
    def damage(answer: dict[str, Any]) -> dict[str, Any]:
        answer["outputs"][0].update(changed)
        return answer

    return damage


NAN = [0.0, float("nan"), *[0.0] * 7]
DAMAGES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "other request": (lambda a: {**a, "id": "another"}, "belongs to request another"),
    "other model": (lambda a: {**a, "model_name": "topics"}, "comes from model 'topics'"),
    "other output": (_output(name="scores"), "0 outputs named 'logits' came"),
    "twice": (lambda a: {**a, "outputs": a["outputs"] * 2}, "2 outputs named 'logits' came"),
    "fewer rows": (_output(shape=[2, 3], data=[0.0] * 6), r"shape \[2, 3\], \[3, 3\] was expected"),
    "fewer classes": (_output(shape=[3, 2], data=[0.0] * 6), r"shape \[3, 2\]"),
    "transposed": (_output(shape=[9]), r"shape \[9\]"),
    "shape that lies": (_output(data=[0.0] * 8), "8 numbers came, 9 were expected"),
    "nan": (_output(data=NAN), "NaN or infinity in the output"),
    "null": (_output(data=[None] * 9), "NaN or infinity in the output"),
    "words": (_output(data=["a"] * 9), "not numbers"),
    "ragged": (_output(data=[[1.0], [1.0, 2.0]]), "not numbers"),
    "binary": (_output(data=None, parameters={"binary_data_size": 36}), "1 numbers came"),
    "integers": (_output(datatype="INT64"), "is INT64, a floating type"),
    "no outputs": (lambda a: {"error": "x"}, "'outputs' is missing"),
    "list": (lambda a: [], "'outputs' is missing"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_an_answer_that_cannot_be_right_is_refused(name: str) -> None:
    damage, words = DAMAGES[name]
    with pytest.raises(TeacherError, match=words) as error:
        logits(sample.V2(change=damage))
    assert f"{sample.URL}/v2/models/sentiment" in str(error.value)


def test_another_version_than_asked_is_refused() -> None:
    with pytest.raises(TeacherError, match="version 2 answered, asked was 1"):
        logits(sample.V2(change=lambda a: {**a, "model_version": "2"}), version="1")


def test_an_unknown_model_lists_the_known() -> None:
    spec = sample.oip_spec()
    spec = type(spec)(**{**vars(spec), "model": "nobody"})
    with pytest.raises(TeacherError, match="unknown model: the server has sentiment, topics"):
        RemoteTeacher(spec, 0, transport=httpx.MockTransport(sample.V2()))


def test_an_unknown_output_lists_the_known() -> None:
    with pytest.raises(TeacherError, match="no output 'scores'; it has logits"):
        teacher(sample.V2(), output="scores")


def test_inputs_that_nobody_can_fill_are_named() -> None:
    inputs = [*TOKENS, {"name": "pixels", "datatype": "FP32", "shape": [-1]}]
    with pytest.raises(TeacherError, match="'pixels': 'FP32'"):
        teacher(sample.V2(inputs=inputs))


def test_a_server_that_is_not_ready_is_an_error() -> None:
    with pytest.raises(TeacherError, match=r"/v2/health/ready: no answer in 1 attempts \(status 503"):
        teacher(sample.V2(ready=False), retries=0)


def test_hidden_states_and_the_head_are_refused() -> None:
    client = teacher(sample.V2())
    with pytest.raises(ConfigError, match="payload hidden"):
        client.score(sample.texts_request(TEXTS, PayloadSpec("hidden", 16)))
    with pytest.raises(TeacherError, match="its head cannot be read"):
        client.head()
