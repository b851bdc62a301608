"""Keys of a remote teacher, its fingerprint, and what is checked before any training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from actors.host import TeacherHost
from actors.remote.setup import check_keys, check_payload, remote_spec
from actors.remote.teacher import RemoteTeacher, remote_fingerprint
from actors.scorer import make_scorer
from tests.unit import config_sample
from tests.unit import remote_samples as sample
from tutelage.config.load import job_digest, load_job
from tutelage.config.models import TeacherConfig
from tutelage.config.remote import OipRemote, OpenAIRemote
from tutelage.config.task import CausalLM, QuestionAnswering, SequenceClassification, Task
from tutelage.errors import ConfigError, ModelError, TeacherError
from tutelage.signals.spec import PayloadSpec

pytestmark = pytest.mark.unit

LM = CausalLM(type="causal-lm")
CLASSES = SequenceClassification(labels=sample.LABELS)


def remote(**keys: Any) -> OpenAIRemote:
    """A completions server."""
    return OpenAIRemote(**{"type": "openai", "url": sample.URL, **keys})


def config(**keys: Any) -> TeacherConfig:
    """A classifier behind a V2 server."""
    base: dict[str, Any] = {
        "name": "judge",
        "model": "sentiment",
        "labels": ["positive", "other", "negative"],
        "remote": {"type": "oip", "url": sample.URL},
    }
    return TeacherConfig(**{**base, **keys})


class TestUrl:
    """The root of a server, and nothing that would be sent in the clear or twice."""

    @pytest.mark.parametrize(
        ("given", "kept"),
        [
            ("http://127.0.0.1:8000/", "http://127.0.0.1:8000"),
            ("https://host.example/teachers/big/", "https://host.example/teachers/big"),
            ("http://[::1]:80", "http://[::1]:80"),
        ],
    )
    def test_a_root_is_kept_without_its_slash(self, given: str, kept: str) -> None:
        assert remote(url=given).url == kept

    @pytest.mark.parametrize(
        ("url", "words"),
        [
            ("127.0.0.1:8000", "is not http://host:port"),
            ("ftp://host", "is not http://host:port"),
            ("http://", "is not http://host:port"),
            ("http://host:port", "is no URL"),
            ("http://host/v1", "write http://host"),
            ("http://host/a/v1/completions", "write http://host/a"),
            ("http://host/?key=1", "a query or a fragment"),
            ("http://me:word@host", "api_key_env"),
        ],
    )
    def test_what_is_no_root_is_refused(self, url: str, words: str) -> None:
        with pytest.raises(ValidationError, match=words):
            remote(url=url)

    @pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "[::1]", "a.localhost"])
    def test_loopback_may_have_a_key(self, host: str) -> None:
        assert remote(url=f"http://{host}:80", api_key_env="KEY").loopback

    @pytest.mark.parametrize("host", ["10.0.0.1", "example.com", "localhost.example.com", "0.0.0.0"])  # noqa: S104
    def test_a_key_over_plain_http_needs_insecure(self, host: str) -> None:
        with pytest.raises(ValidationError, match="insecure: true"):
            remote(url=f"http://{host}", api_key_env="KEY")
        assert not remote(url=f"http://{host}", api_key_env="KEY", insecure=True).loopback
        assert remote(url=f"https://{host}", api_key_env="KEY").url == f"https://{host}"


@pytest.mark.parametrize("value", ["sk-abc123", "hf_abcdef", "a b", "sk_live_1", "9KEY"])
def test_a_key_in_the_job_file_is_refused_and_not_repeated(value: str, tmp_path: Path) -> None:
    block = f"    remote: {{type: openai, url: http://localhost:1, api_key_env: '{value}'}}\n"
    text = config_sample.SMALL.replace("    model: some/model\n", f"    model: some/model\n{block}", 1)
    with pytest.raises(ConfigError, match="never the key itself") as error:
        load_job(config_sample.write(tmp_path, text), [], {})
    assert value not in str(error.value)


def test_where_and_how_patiently_is_no_part_of_the_experiment(tmp_path: Path) -> None:
    def digest(keys: str) -> str:
        block = f"    remote: {{type: openai, url: http://localhost:1{keys}}}\n"
        text = config_sample.SMALL.replace("    model: some/model\n", f"    model: some/model\n{block}", 1)
        return job_digest(load_job(config_sample.write(tmp_path, text), [], {}).job)

    assert digest("") == digest(", timeout_s: 9, retries: 1, batch: 4, api_key_env: KEY, max_reply_mb: 3")
    assert digest("") != digest(", revision: b")


Server = Callable[[httpx.Request], httpx.Response]


def spec_of(served: Server, teacher: TeacherConfig | None = None, task: Task = CLASSES) -> Any:
    """The spec that setup makes."""
    return remote_spec(
        teacher or config(),
        task,
        tokenizer="",
        max_tokens=32,
        deadline_s=120,
        transport=httpx.MockTransport(served),
    )


def test_the_spec_holds_the_order_of_labels_and_a_fingerprint() -> None:
    spec = spec_of(sample.V2())
    assert spec.label_order == (2, 0, 1)
    assert (spec.model, spec.remote.url) == ("sentiment", sample.URL)
    assert len(spec.fingerprint) == 16
    assert spec_of(sample.V2()) == spec


def test_a_spec_scores_in_the_order_that_setup_found() -> None:
    spec = spec_of(sample.V2())
    client = RemoteTeacher(spec, 3, transport=httpx.MockTransport(sample.V2()))
    reply = client.score(sample.texts_request(["x"], PayloadSpec("dense", 3)))
    row = sample.row("x")
    assert reply.packet.columns["logits"].values[0].tolist() == pytest.approx([row[2], row[0], row[1]])
    assert client.describe()["replica"] == reply.replica == "judge-3"
    assert client.describe()["device"] == sample.URL


@pytest.mark.parametrize(
    "change",
    [
        {"model": "other"},
        {"label_order": (0, 1, 2)},
        {"max_tokens": 16},
        {"remote": OipRemote(type="oip", url="http://localhost:1")},
        {"remote": OipRemote(type="oip", url=sample.URL, revision="2")},
        {"remote": OipRemote(type="oip", url=sample.URL, values="probabilities")},
    ],
)
def test_what_decides_a_signal_is_in_the_fingerprint(change: dict[str, Any]) -> None:
    spec, told = sample.oip_spec(), {"name": "sentiment"}
    assert remote_fingerprint(replace(spec, **change), told) != remote_fingerprint(spec, told)


def test_what_the_server_says_and_the_tokenizer_are_in_the_fingerprint(tmp_path: Path) -> None:
    spec, told = sample.oip_spec(), {"name": "sentiment", "versions": ["1"]}
    first = remote_fingerprint(spec, told)
    assert remote_fingerprint(spec, {**told, "versions": ["2"]}) != first
    (tmp_path / "tokenizer.json").write_text("{}")
    with_words = remote_fingerprint(replace(spec, tokenizer=str(tmp_path)), told)
    assert with_words != first
    (tmp_path / "tokenizer.json").write_text("{ }")
    assert remote_fingerprint(replace(spec, tokenizer=str(tmp_path)), told) != with_words


def test_patience_is_not_in_the_fingerprint() -> None:
    told = {"name": "sentiment"}
    patient = sample.oip_spec(timeout_s=5, retries=9, batch=1, api_key_env="KEY")
    assert remote_fingerprint(patient, told) == remote_fingerprint(sample.oip_spec(), told)


def test_a_replica_that_meets_another_server_does_not_start() -> None:
    spec = spec_of(sample.V2())
    other = sample.V2(inputs=[{"name": "words", "datatype": "BYTES", "shape": [-1]}])
    with pytest.raises(TeacherError, match="is another one here"):
        RemoteTeacher(spec, 0, transport=httpx.MockTransport(other))


def test_a_server_that_comes_back_as_another_is_seen() -> None:
    """After a 503 the server is asked again who it is; its answer is not used when that has changed."""
    served, down = sample.V2(), [False]

    def sometimes(request: httpx.Request) -> httpx.Response:
        if down.pop() if down else False:
            return httpx.Response(503)
        return served(request)

    client = RemoteTeacher(sample.oip_spec(), 0, transport=httpx.MockTransport(sometimes))
    request = sample.texts_request(["x"], PayloadSpec("dense", 3))
    client.score(request)
    down.append(True)
    client.score(request)
    down.append(True)
    served.inputs = [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    for _ in range(2):
        with pytest.raises(TeacherError, match="came back as another one: inputs was"):
            client.score(request)


@pytest.mark.parametrize(
    ("keys", "task", "words"),
    [
        ({"labels": None}, CLASSES, "judge.labels is null"),
        ({"labels": ["positive", "negative"]}, CLASSES, "task.labels are"),
        ({"num_gpus": 0.5}, CLASSES, "a client needs no GPU"),
        ({"remote": {"type": "oip", "url": sample.URL, "timeout_s": 110}}, CLASSES, "would ask again"),
        ({"finetune": {"data": {"a": {"rows": 1}}}}, CLASSES, "a server cannot be trained"),
        ({}, LM, "oip, which serves sequence-classification"),
        ({}, QuestionAnswering(type="question-answering"), "task.type is question-answering"),
        ({"remote": {"type": "openai", "url": sample.URL}}, CLASSES, "openai, which serves causal-lm"),
        ({"remote": {"type": "openai", "url": sample.URL}}, LM, "judge.tokenizer is null"),
    ],
)
def test_keys_that_cannot_go_together_are_refused_unasked(
    keys: dict[str, Any], task: Task, words: str
) -> None:
    served = sample.V2()
    with pytest.raises(ConfigError, match=words):
        spec_of(served, config(**keys), task)
    assert served.paths == []


def test_the_client_gives_up_before_the_stream() -> None:
    check_keys(config(), CLASSES, 120)
    with pytest.raises(ConfigError, match="stream would ask again") as error:
        check_keys(config(), CLASSES, 60)
    assert "timeout_s=54" in error.value.fix


class TestPayload:
    """The last check: one tiny question in the run's own payload."""

    def check(self, served: Server, tokenizer: str, student: str, k: int = 6) -> None:
        spec = sample.openai_spec(tokenizer)
        width = 260
        check_payload(
            spec, PayloadSpec("topk", width, entries=k), student, transport=httpx.MockTransport(served)
        )

    def served(self) -> sample.Completions:
        return sample.Completions(260, lambda token: "?", dialect="ids")

    def test_one_vocabulary_passes(self, tmp_path: Path) -> None:
        folder = sample.byte_tokenizer_in(tmp_path)
        served = self.served()
        self.check(served, folder, folder)
        assert served.asked

    def test_a_student_with_other_tokens_is_refused_unasked(self, tmp_path: Path) -> None:
        served = self.served()
        with pytest.raises(ModelError, match=r"teachers\.big\.tokenizer: for causal-lm both need one"):
            self.check(
                served,
                sample.byte_tokenizer_in(tmp_path / "b"),
                sample.word_tokenizer_in(tmp_path / "w"),
            )
        assert served.asked == []

    def test_too_large_a_k_is_refused(self, tmp_path: Path) -> None:
        folder = sample.byte_tokenizer_in(tmp_path)
        with pytest.raises(TeacherError, match="max allowed: 20"):
            self.check(self.served(), folder, folder, k=21)


def test_a_spec_with_a_server_makes_a_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """The class that actors are made of asks the server, as the function does."""
    made = RemoteTeacher.__init__

    def wired(self: RemoteTeacher, spec: Any, replica: Any) -> None:
        made(self, spec, replica, transport=httpx.MockTransport(sample.V2()))

    monkeypatch.setattr(RemoteTeacher, "__init__", wired)
    assert isinstance(make_scorer(sample.oip_spec()), RemoteTeacher)
    host = TeacherHost()
    assert host.load(sample.oip_spec(), 2)["replica"] == "judge-2"
    reply = host.score("judge", sample.texts_request(["x"], PayloadSpec("dense", 3)))
    assert reply.packet.columns["logits"].values.shape == (1, 3)
    with pytest.raises(TeacherError, match="head"):
        host.head("judge")
