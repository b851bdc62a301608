"""One server over HTTP: what is asked again, how long, and what is never said."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from tests.unit.remote_samples import Time, server
from tutelage.errors import ConfigError, RefusedError, TeacherError

pytestmark = pytest.mark.unit


class Script:
    """Answers one after another; the last one again and again."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self._answers = list(answers)
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


OK = httpx.Response(200, json={"fine": 1})


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_server_is_asked_again_with_growing_pauses(status: int) -> None:
    script, time = Script(*[httpx.Response(status)] * 3, OK), Time()
    assert server(script, time).post("/x", {"a": 1}) == {"fine": 1}
    assert time.slept == [0.25, 0.5, 1.0]
    assert [request.content for request in script.asked] == [b'{"a":1}'] * 4


@pytest.mark.parametrize(
    "error", [httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), httpx.RemoteProtocolError("cut")]
)
def test_a_lost_connection_is_asked_again(error: Exception) -> None:
    script = Script(error, OK)
    client = server(script)
    assert client.get("/x") == {"fine": 1}
    assert client.retried == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 500])
def test_a_refusal_is_final_and_says_the_servers_words(status: int) -> None:
    script, time = Script(httpx.Response(status, json={"error": {"message": "no such thing"}})), Time()
    with pytest.raises(
        RefusedError, match=rf"POST http://127.0.0.1:8999/x: status {status}: no such thing"
    ) as e:
        server(script, time).post("/x", {})
    assert (len(script.asked), time.slept, e.value.status) == (1, [], status)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"detail": [{"msg": "field required"}]}', "field required"),
        (b'{"error": "model is loading"}', "model is loading"),
        (b'{"message": "out of memory"}', "out of memory"),
        (b"<html>\n\tBad\x00 request", "<html> Bad request"),
        (b"", "without a word"),
        (b"x" * 5000, "x{390}"),
    ],
)
def test_every_servers_way_of_saying_no_is_shown_on_one_line(body: bytes, words: str) -> None:
    with pytest.raises(RefusedError, match=words) as error:
        server(Script(httpx.Response(400, content=body))).get("/x")
    assert len(error.value.problem) < 500
    assert "\n" not in error.value.problem


def test_retry_after_in_seconds_is_waited_out() -> None:
    time = Time()
    server(Script(httpx.Response(429, headers={"retry-after": "7"}), OK), time).get("/x")
    assert time.slept == [7.0]


def test_retry_after_as_a_date_is_waited_out() -> None:
    time = Time()
    moment = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    server(Script(httpx.Response(503, headers={"retry-after": moment}), OK), time).get("/x")
    assert 15 < time.slept[0] <= 20


@pytest.mark.parametrize("value", ["soon", "-5", "", "1e9", "Mon, 99 Foo 2026"])
def test_a_retry_after_that_says_nothing_is_the_backoff(value: str) -> None:
    time = Time()
    server(Script(httpx.Response(503, headers={"retry-after": value}), OK), time).get("/x")
    assert time.slept == [0.25]


def test_a_wait_beyond_the_time_left_is_not_begun() -> None:
    script, time = Script(httpx.Response(429, headers={"retry-after": "61"})), Time()
    with pytest.raises(TeacherError, match="it asks to wait 61 s, and 60 s are left"):
        server(script, time).get("/x")
    assert (len(script.asked), time.slept) == (1, [])


def test_all_calls_of_a_question_share_its_time() -> None:
    """Pauses of 0.25 + 0.5 + 1 + 2 s are within 3.8 s once, and not twice."""
    time = Time()
    client = server(Script(*[httpx.Response(503)] * 4, OK), time, timeout_s=3.8)
    with client.question():
        assert client.get("/x") == {"fine": 1}
        assert time.now == 103.75
        time.now += 0.1
        with pytest.raises(TeacherError, match="ReadTimeout: the time is used up"):
            client.get("/x")
    assert client.get("/x") == {"fine": 1}


def test_the_retries_end() -> None:
    script = Script(httpx.ConnectError("nobody there"))
    with pytest.raises(TeacherError, match=r"no answer in 3 attempts \(ConnectError: nobody there\)"):
        server(script, retries=2).get("/x")
    assert len(script.asked) == 3


def test_a_large_answer_is_refused_before_it_is_read_in_full() -> None:
    read: list[int] = []

    def parts() -> Iterator[bytes]:
        for n in range(100):
            read.append(n)
            yield b"x" * 100_000

    with pytest.raises(RefusedError, match=r"the answer is larger than 0\.5 MB"):
        server(lambda _: httpx.Response(200, content=parts()), max_reply_mb=0.5).get("/x")
    assert len(read) == 6


def test_the_limit_holds_for_what_is_unpacked() -> None:
    packed = gzip.compress(b" " * 10_000_000)
    assert len(packed) < 20_000
    answer = httpx.Response(200, headers={"content-encoding": "gzip"}, content=packed)
    with pytest.raises(RefusedError, match="larger than 1 MB"):
        server(lambda _: answer, max_reply_mb=1).get("/x")


def test_a_server_that_drips_is_given_up() -> None:
    time = Time()

    def drops() -> Iterator[bytes]:
        while True:
            time.now += 9
            yield b" "

    with pytest.raises(TeacherError, match="the answer came too slowly"):
        server(lambda _: httpx.Response(200, content=drops()), time, timeout_s=60).get("/x")
    assert time.now == 163.0


def test_no_redirect_is_followed() -> None:
    script = Script(httpx.Response(307, headers={"location": "http://elsewhere.example/v1"}))
    with pytest.raises(RefusedError, match=r"redirects to http://elsewhere\.example/v1"):
        server(script).post("/x", {"secret": "text"})
    assert len(script.asked) == 1


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"{", b"[" * 200_000])
def test_an_answer_that_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(RefusedError, match="no JSON"):
        server(lambda _: httpx.Response(200, content=body)).get("/x")


class TestKey:
    """The key goes into one header, and nowhere else."""

    @pytest.fixture(autouse=True)
    def _key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MY_KEY", "s3cret-value")

    def test_it_is_sent_as_a_bearer(self) -> None:
        script = Script(OK)
        server(script, api_key_env="MY_KEY").get("/x")
        assert script.asked[0].headers["authorization"] == "Bearer s3cret-value"

    def test_nothing_is_sent_without_the_key_of_the_config(self) -> None:
        script = Script(OK)
        server(script).get("/x")
        assert "authorization" not in script.asked[0].headers

    @pytest.mark.parametrize(
        "answer",
        [
            httpx.Response(401, json={"error": {"message": "key s3cret-value is wrong"}}),
            httpx.Response(200, content=b"your key is s3cret-value"),
            httpx.Response(302, headers={"location": "http://x.example/?key=s3cret-value"}),
            httpx.Response(503, content=b"s3cret-value"),
            httpx.ConnectError("Bearer s3cret-value"),
        ],
    )
    def test_it_is_in_no_error(self, answer: httpx.Response | Exception) -> None:
        with pytest.raises(TeacherError) as error:
            server(Script(answer), api_key_env="MY_KEY", retries=0).get("/x")
        assert "s3cret" not in f"{error.value!r} {error.value} {vars(error.value)}"
        assert "***" in str(error.value)

    @pytest.mark.parametrize("value", [None, "", "  ", "kéy", "a\x01b"])
    def test_a_variable_without_a_key_is_named(
        self, value: str | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("MY_KEY") if value is None else monkeypatch.setenv("MY_KEY", value)
        with pytest.raises(ConfigError, match="the environment variable MY_KEY is not"):
            server(Script(OK), api_key_env="MY_KEY")
