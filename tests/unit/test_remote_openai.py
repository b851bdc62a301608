"""A causal-lm behind a completions server: the right numbers at the right positions, or an error."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from actors.remote.openai import OpenAIModel
from actors.remote.teacher import RemoteTeacher
from tests.unit import remote_samples as sample
from tutelage.errors import ConfigError, TeacherError
from tutelage.models.load import load_tokenizer
from tutelage.signals.exchange import Reply
from tutelage.signals.payloads import decode, fault
from tutelage.signals.spec import PayloadSpec

pytestmark = pytest.mark.unit

K = 6
TEXTS = [[8, 9, 10, 11], [12, 9], [60, 61, 62, 63, 64, 65, 66]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tokenizer whose tokens are single bytes."""
    return sample.byte_tokenizer_in(tmp_path_factory.mktemp("bytes"))


@pytest.fixture(scope="module")
def words(folder: str) -> Any:
    """The tokenizer itself."""
    return load_tokenizer(folder)


@pytest.fixture
def served(words: Any) -> sample.Completions:
    """A server of the tokenizer's width."""
    return sample.Completions(len(words), lambda token: words.decode([token]))


def spec(served: sample.Completions, k: int = K, dtype: Any = "fp32") -> PayloadSpec:
    """Top-k over the server's vocabulary."""
    return PayloadSpec("topk", served.width, dtype=dtype, entries=k)


def teacher(served: Callable[[httpx.Request], httpx.Response], folder: str, **remote: Any) -> RemoteTeacher:
    """A client of the server."""
    return RemoteTeacher(sample.openai_spec(folder, **remote), 0, transport=httpx.MockTransport(served))


def ask(served: sample.Completions, folder: str, ids: Any = TEXTS, **more: Any) -> tuple[Any, Reply]:
    """Decoded values and the reply."""
    request = sample.ids_request(ids, spec(served, **more))
    reply = teacher(served, folder).score(request)
    assert fault(request, reply) is None
    return decode(request.spec, reply.packet, None, "cpu"), reply


def best(prefix: list[int], width: int, k: int = K) -> dict[int, float]:
    """What the server's model holds most probable after a prefix."""
    log_p_V = sample.log_p(prefix, width)
    return {int(i): float(log_p_V[i]) for i in np.argsort(-log_p_V)[:k]}


@pytest.mark.parametrize("dialect", ["prompt", "ids"])
def test_position_p_holds_what_follows_the_first_p_tokens(
    dialect: str, served: sample.Completions, folder: str
) -> None:
    served.dialect = dialect
    values, reply = ask(served, folder)
    assert reply.packet.lengths_N.tolist() == [3, 1, 6]
    wanted = [best(ids[:q], served.width) for ids in TEXTS for q in range(1, len(ids))]
    for ids_k, log_p_k, want in zip(values.values, values.log_p_Rk, wanted, strict=True):
        assert ids_k.tolist() == list(want)
        assert log_p_k.tolist() == pytest.approx(list(want.values()), abs=1e-5)


def test_texts_stand_for_tokens_where_the_server_has_no_ids(tmp_path: Path) -> None:
    """Words can be told by their text."""
    spelt = sample.word_tokenizer_in(tmp_path)
    words = load_tokenizer(spelt)
    served = sample.Completions(len(words), lambda token: words.decode([token]), dialect="text")
    values, _ = ask(served, spelt, ids=[[10, 11, 12]])
    assert values.values.tolist() == [list(best([10], len(words))), list(best([10, 11], len(words)))]


def test_a_text_that_two_tokens_share_is_refused(served: sample.Completions, folder: str) -> None:
    """Single bytes above 127 all read as the replacement character."""
    served.dialect = "text"
    with pytest.raises(TeacherError, match="entries have a text that is not one token's alone"):
        ask(served, folder, ids=[list(range(40, 60))])


def test_a_completion_asks_for_its_last_tokens_alone(served: sample.Completions, folder: str) -> None:
    """Two positions of a text of seven tokens are its last two tokens."""
    request = sample.ids_request([TEXTS[2]], spec(served), positions=[2])
    packet = teacher(served, folder).score(request).packet
    ids = decode(request.spec, packet, None, "cpu").values.tolist()
    assert ids == [list(best(TEXTS[2][:5], served.width)), list(best(TEXTS[2][:6], served.width))]


def test_a_shorter_teacher_covers_the_first_positions(served: sample.Completions, folder: str) -> None:
    request = sample.ids_request([TEXTS[2], TEXTS[1]], spec(served))
    short = replace(sample.openai_spec(folder), max_tokens=4)
    packet = RemoteTeacher(short, 0, transport=httpx.MockTransport(served)).score(request).packet
    assert packet.lengths_N.tolist() == [3, 1]
    assert [len(ids) for ids in served.asked[-1]["prompt"]] == [4, 2]


def test_texts_without_a_position_are_not_sent(served: sample.Completions, folder: str) -> None:
    values, reply = ask(served, folder, ids=[[5], TEXTS[1], [7]])
    assert reply.packet.lengths_N.tolist() == [0, 1, 0]
    assert served.asked[-1]["prompt"] == [TEXTS[1]]
    assert values.values.shape == (1, K)


def test_nothing_to_ask_is_answered_at_once(served: sample.Completions, folder: str) -> None:
    values, _ = ask(served, folder, ids=[[5], [7]])
    assert values.values.shape == (0, K)
    assert served.asked == []


def test_a_large_question_is_sent_in_parts(served: sample.Completions, folder: str) -> None:
    """Three texts by two: the same packet as in one call."""
    request = sample.ids_request(TEXTS, spec(served))
    parts = teacher(served, folder, batch=2).score(request).packet
    assert [len(body["prompt"]) for body in served.asked[1:]] == [2, 1]
    whole = teacher(served, folder).score(request).packet
    for name, column in whole.columns.items():
        assert np.array_equal(parts.columns[name].values, column.values)


def test_choices_in_any_order_find_their_text(served: sample.Completions, folder: str) -> None:
    straight = ask(served, folder)[1].packet
    served.change = lambda answer: {**answer, "choices": answer["choices"][::-1]}
    assert np.array_equal(ask(served, folder)[1].packet.columns["ids"].values, straight.columns["ids"].values)


def test_compact_types_travel(served: sample.Completions, folder: str) -> None:
    """Two bytes an id and two a number in fp16; the JSON of the same is over twenty times as large."""
    client = teacher(served, folder)
    request = sample.ids_request(TEXTS, spec(served, dtype="fp16"))
    packet = client.score(request).packet
    assert packet.nbytes == 10 * K * 4
    assert client.bytes_received > 20 * packet.nbytes


def test_an_embedding_that_is_padding_goes_to_the_tail(served: sample.Completions, folder: str) -> None:
    """An id beyond the vocabulary with hardly any probability is left out; the row stays k wide."""

    def padded(answer: dict[str, Any]) -> dict[str, Any]:
        for choice in answer["choices"]:
            for row in choice["prompt_logprobs"][1:]:
                while len(row) >= K:
                    del row[list(row)[-1]]
                row[str(served.width + 3)] = {"logprob": -12.0}
        return answer

    served.change = padded
    values, _ = ask(served, folder, ids=[[8, 9]])
    assert values.values.shape == (1, K)
    assert int(values.values.max()) < served.width
    assert math.exp(float(values.log_p_Rk[0, -1])) == 0.0


Damage = Callable[[dict[str, Any]], Any]


def _row(change: Callable[[dict[str, Any]], None]) -> Damage:
    def damage(answer: dict[str, Any]) -> dict[str, Any]:
        change(answer["choices"][0]["prompt_logprobs"][2])
        return answer

    return damage


def _choice(change: Callable[[dict[str, Any]], Any]) -> Damage:
    def damage(answer: dict[str, Any]) -> dict[str, Any]:
        change(answer["choices"][0])
        return answer

    return damage


def _first(row: dict[str, Any], logprob: Any) -> None:
    row[next(iter(row))]["logprob"] = logprob


def _drop(row: dict[str, Any], count: int) -> None:
    for key in list(row)[-count:]:
        del row[key]


DAMAGES: dict[str, tuple[Damage, str]] = {
    "shifted": (
        _choice(lambda c: c["prompt_logprobs"].insert(1, c["prompt_logprobs"][1])),
        "4 tokens were sent",
    ),
    "rotated": (
        _choice(
            lambda c: c.update(prompt_logprobs=[None, *c["prompt_logprobs"][:0:-1]], prompt_token_ids=None)
        ),
        "the answer is about another one",
    ),
    "short": (_choice(lambda c: c["prompt_logprobs"].pop()), "log-probabilities of 3 came"),
    "none": (_choice(lambda c: c.update(prompt_logprobs=None)), "'prompt_logprobs' is missing"),
    "hole": (_choice(lambda c: c["prompt_logprobs"].__setitem__(2, None)), "token 2 has no log-prob"),
    "other tokens": (_choice(lambda c: c.update(prompt_token_ids=[1, 8, 9, 10])), "read other tokens"),
    "few": (_row(partial(_drop, count=3)), "6 log-probabilities a token were asked for, 4 came"),
    "nan": (_row(partial(_first, logprob=float("nan"))), "NaN or infinity"),
    "infinity": (_row(partial(_first, logprob=float("inf"))), "NaN or infinity"),
    "huge": (_row(partial(_first, logprob=10**400)), "entries are not"),
    "text": (_row(partial(_first, logprob="low")), "entries are not"),
    "logits": (_row(partial(_first, logprob=7.5)), "probabilities of one position sum to 1809"),
    "negative id": (_row(lambda r: r.update({"-4": {"logprob": -1.0}})), "doubled or below 0"),
    "outside": (_row(lambda r: r.update({"99999": {"logprob": -2.0}})), "outside the vocabulary of 260"),
    "same index": (lambda a: {**a, "choices": [{**c, "index": 0} for c in a["choices"]]}, "are numbered"),
    "missing choice": (lambda a: {**a, "choices": a["choices"][1:]}, "are numbered"),
    "true index": (_choice(lambda c: c.update(index=True)), "'index' is a bool"),
    "other model": (lambda a: {**a, "model": "someone/else"}, "comes from model 'someone/else'"),
    "list": (lambda a: [a], "'choices' is missing"),
    "null": (lambda a: None, "'choices' is missing"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_an_answer_that_cannot_be_right_is_refused(
    name: str, served: sample.Completions, folder: str
) -> None:
    """None of these reaches the student; the error names the server."""
    damage, words = DAMAGES[name]
    client = teacher(served, folder)
    request = sample.ids_request(TEXTS, spec(served))
    client.score(request)
    served.change = lambda answer: damage(copy.deepcopy(answer))
    with pytest.raises(TeacherError, match=words) as error:
        client.score(request)
    assert sample.URL in str(error.value)


def test_rounding_above_one_is_taken_back(served: sample.Completions, folder: str) -> None:
    """A bf16 server may give 1.0005 in all; the packet's own check allows far less."""

    def sure(answer: dict[str, Any]) -> dict[str, Any]:
        for choice in answer["choices"]:
            for row in choice["prompt_logprobs"][1:]:
                for n, entry in enumerate(row.values()):
                    entry["logprob"] = math.log(0.9995) if n == 0 else math.log(0.001 / (len(row) - 1))
        return answer

    served.change = sure
    values, _ = ask(served, folder)
    assert float(values.log_p_Rk.double().exp().sum(-1).max()) <= 1 + 1e-6


class TestProbe:
    """One question before any training."""

    def probe(self, served: sample.Completions, folder: str, payload: PayloadSpec | None = None) -> None:
        teacher(served, folder).probe(payload or spec(served))

    @pytest.mark.parametrize("dialect", ["prompt", "ids"])
    def test_a_server_that_can_serve_passes(
        self, dialect: str, served: sample.Completions, folder: str
    ) -> None:
        served.dialect = dialect
        self.probe(served, folder)
        assert len(served.asked) <= 3

    def test_the_servers_limit_is_named(self, served: sample.Completions, folder: str) -> None:
        with pytest.raises(TeacherError, match="max allowed: 20") as error:
            self.probe(served, folder, spec(served, k=64))
        assert error.value.fix == (
            "the payload's k can be 20 at most, or start the server with a higher limit "
            "(vLLM: --max-logprobs 64)"
        )

    def test_a_server_of_written_tokens_alone_is_told(self, served: sample.Completions, folder: str) -> None:
        served.dialect = "none"
        with pytest.raises(TeacherError, match="no log-probabilities of the prompt") as error:
            self.probe(served, folder)
        assert "llama.cpp" in error.value.fix

    def test_another_tokenizer_is_seen_by_its_texts(self, served: sample.Completions, folder: str) -> None:
        served.text_of = lambda token: f"w{token}"
        with pytest.raises(TeacherError, match="the server has another tokenizer"):
            self.probe(served, folder)

    def test_a_field_that_the_server_does_not_know_is_not_the_end(
        self, served: sample.Completions, folder: str
    ) -> None:
        served.dialect = "ids"

        def strict(request: httpx.Request) -> httpx.Response:
            if b"prompt_logprobs" in request.content:
                return httpx.Response(422, json={"detail": "extra field prompt_logprobs"})
            return served(request)

        teacher(strict, folder).probe(spec(served))

    @pytest.mark.parametrize(
        ("payload", "words"),
        [
            (PayloadSpec("dense", 260), "payload dense"),
            (PayloadSpec("sampled", 260, entries=12), "payload sampled"),
            (PayloadSpec("hidden", 16), "payload hidden"),
            (PayloadSpec("topk", 260, entries=6, temperature=2.0), "at temperature 2"),
        ],
    )
    def test_what_such_a_server_cannot_give_is_refused_unasked(
        self, payload: PayloadSpec, words: str, served: sample.Completions, folder: str
    ) -> None:
        with pytest.raises(ConfigError, match=words):
            self.probe(served, folder, payload)
        with pytest.raises(ConfigError, match=words):
            teacher(served, folder).score(sample.ids_request(TEXTS, payload))
        assert served.asked == []


def test_an_unknown_model_lists_the_known(served: sample.Completions, folder: str) -> None:
    served.models = [{"id": "b"}, {"id": "a"}]
    with pytest.raises(TeacherError, match="no model 'owner/tiny'; the server has a, b"):
        teacher(served, folder)


def test_the_server_reads_at_temperature_one(served: sample.Completions, folder: str) -> None:
    """A server's own default temperature must not bend the numbers."""
    ask(served, folder)
    assert {(body["temperature"], body["top_p"]) for body in served.asked} == {(1.0, 1.0)}


def test_a_request_in_text_is_refused(served: sample.Completions, folder: str, words: Any) -> None:
    model = OpenAIModel(sample.server(served), sample.MODEL, words, 32, 8)
    with pytest.raises(TeacherError, match="holds no token ids"):
        model.score(sample.texts_request(["a"], spec(served)))
