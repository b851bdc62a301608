"""Whose turn it is: bounds of a turn, order, no starvation, faults that stay with their request."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_apps.batching import TURN_TOKENS, Batches
from serve_apps.replies import RefusedError
from serve_apps.schemas import Prediction

pytestmark = pytest.mark.unit

LONG = "long " * 4000


class Model:
    """Names each text as its label; keeps its turns; waits for `gate` in each when there is one."""

    def __init__(self) -> None:
        self.turns: list[list[str]] = []
        self.gate: threading.Semaphore | None = None
        self.on_turn: Callable[[list[str]], None] = lambda _: None

    def __call__(self, texts: list[str]) -> list[Prediction]:
        self.turns.append(texts)
        if self.gate is not None:
            self.gate.acquire(timeout=10)
        self.on_turn(texts)
        return [Prediction(label=text, score=1.0, scores={text: 1.0}) for text in texts]


class Clock:
    """Seconds by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def labels(found: list[Prediction]) -> list[str]:
    return [one.label for one in found]


def batches(model: Model, clock: Clock | None = None, *, max_requests: int = 16) -> Batches:
    return Batches(model, max_tokens=128, max_requests=max_requests, clock=clock or Clock())


def spend(model: Model, clock: Clock, *, tokens_a_second: float, call_s: float = 0.0) -> None:
    """Let each turn take so long by the clock."""

    def turn(texts: list[str]) -> None:
        clock.now += call_s + sum(min(len(text) + 2, 128) for text in texts) / tokens_a_second

    model.on_turn = turn


def run(body: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(body(), 20))


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.lists(st.integers(1, 300), min_size=1, max_size=40), min_size=1, max_size=12),
    most=st.integers(1, 16),
)
def test_every_request_gets_its_own_answers_in_turns_within_bounds(sizes: list[list[int]], most: int) -> None:
    """Any mix of requests: each text once, in its place; no turn above the tokens, unless one text is."""
    model = Model()
    requests = [[f"{r}.{n} ".ljust(size, "x") for n, size in enumerate(row)] for r, row in enumerate(sizes)]

    async def body() -> None:
        together = batches(model, max_requests=most)
        found = await asyncio.gather(*(together.answer(texts) for texts in requests))
        assert [labels(one) for one in found] == requests

    run(body)
    for turn in model.turns:
        assert len(turn) == 1 or sum(min(len(text) + 2, 128) for text in turn) <= TURN_TOKENS
        assert len({text.split(".")[0] for text in turn}) <= most


def test_one_word_behind_large_requests_waits_for_two_turns() -> None:
    """Sixteen requests of 64 long texts wait; a word that comes is in one of the next two turns."""
    model = Model()
    model.gate = threading.Semaphore(0)

    async def body() -> None:
        together = batches(model)
        large = [asyncio.create_task(together.answer([LONG] * 64)) for _ in range(16)]
        for n in range(5):
            while len(model.turns) <= n:
                await asyncio.sleep(0.001)
            model.gate.release()  # type: ignore[union-attr]
        word = asyncio.create_task(together.answer(["word"]))
        await asyncio.sleep(0)
        model.gate.release(1000)  # type: ignore[union-attr]
        assert labels(await word) == ["word"]
        await asyncio.gather(*large)

    run(body)
    at = next(n for n, turn in enumerate(model.turns) if "word" in turn)
    assert at <= 7
    assert len(model.turns[0]) == TURN_TOKENS // 128


def test_small_requests_without_end_do_not_starve_a_large_one() -> None:
    """With each turn the next word comes; the large request gets every second turn."""
    model = Model()
    coming = 100

    async def body() -> None:
        together = batches(model, max_requests=1)
        loop = asyncio.get_running_loop()
        tasks: list[asyncio.Task[Any]] = []

        def again(texts: list[str]) -> None:
            if len(model.turns) < coming:
                loop.call_soon_threadsafe(lambda: tasks.append(loop.create_task(together.answer(["word"]))))

        model.on_turn = again
        words = [asyncio.create_task(together.answer(["word"])) for _ in range(4)]
        assert len(await together.answer([LONG] * 64)) == 64
        assert len(model.turns) <= 2 * 64 * 128 // TURN_TOKENS + 2
        while len(model.turns) < coming:
            await asyncio.sleep(0.001)
        await asyncio.gather(*words, *tasks)

    run(body)


def test_work_that_would_not_be_done_in_time_is_refused_with_a_time_to_return() -> None:
    """At 100 tokens a second 25 s of work are let in; a request of that size more is a 503, a word is not."""
    model, clock = Model(), Clock()
    model.gate = threading.Semaphore(0)

    spend(model, clock, tokens_a_second=100)

    async def body() -> None:
        together = batches(model, clock)
        model.gate.release()  # type: ignore[union-attr]
        await together.answer([LONG] * 8)
        inside = [asyncio.create_task(together.answer([LONG] * 8)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(RefusedError, match="s of work are waiting") as caught:
            await together.answer([LONG] * 12)
        assert caught.value.status == 503
        assert int((caught.value.headers or {})["Retry-After"]) >= 1
        word = asyncio.create_task(together.answer(["word"]))
        await asyncio.sleep(0)
        model.gate.release(100)  # type: ignore[union-attr]
        await asyncio.gather(word, *inside)
        assert len(await together.answer([LONG] * 64)) == 64

    run(body)


def test_what_single_words_took_refuses_no_large_request() -> None:
    """A call costs 20 ms before its first token: words measure that, not the 20,000 tokens a second."""
    model, clock = Model(), Clock()

    spend(model, clock, tokens_a_second=20_000, call_s=0.02)

    async def body() -> None:
        together = batches(model, clock)
        for _ in range(20):
            await together.answer(["good"])
        found = await asyncio.gather(*(together.answer([LONG] * 32) for _ in range(3)))
        assert [len(one) for one in found] == [32, 32, 32]
        await asyncio.gather(*(together.answer([LONG] * 32) for _ in range(3)))

    run(body)


def test_a_small_request_waits_for_a_larger_older_one_too() -> None:
    """20 s of its own and smaller work, and as many of an older one: 40 s are more than 25."""
    model, clock = Model(), Clock()
    model.gate = threading.Semaphore(0)

    spend(model, clock, tokens_a_second=100)

    async def body() -> None:
        together = batches(model, clock)
        model.gate.release()  # type: ignore[union-attr]
        await together.answer([LONG] * 8)
        large = asyncio.create_task(together.answer([LONG] * 64))
        await asyncio.sleep(0)
        with pytest.raises(RefusedError, match="s of work are waiting"):
            await together.answer([LONG] * 15)
        model.gate.release(100)  # type: ignore[union-attr]
        assert len(await large) == 64

    run(body)


def test_a_fault_stays_with_the_request_that_caused_it() -> None:
    """A text on which the model raises fails its own request; those of the same turn are answered."""
    model = Model()

    def raising(texts: list[str]) -> None:
        if "poison" in texts:
            raise RuntimeError("no")

    model.on_turn = raising

    async def body() -> None:
        together = batches(model)
        found = await asyncio.gather(
            together.answer(["a"]),
            together.answer(["b", "poison"]),
            together.answer(["c"]),
            return_exceptions=True,
        )
        assert isinstance(found[1], RuntimeError)
        assert [labels(found[0]), labels(found[2])] == [["a"], ["c"]]  # type: ignore[arg-type]
        assert labels(await together.answer(["d"])) == ["d"]

    run(body)


def test_a_request_that_is_given_up_takes_no_further_turn() -> None:
    """A client that hangs up in the middle of a large request frees the model at the end of the turn."""
    model = Model()
    model.gate = threading.Semaphore(0)

    async def body() -> None:
        together = batches(model)
        large = asyncio.create_task(together.answer([LONG] * 64))
        while not model.turns:
            await asyncio.sleep(0.001)
        large.cancel()
        word = asyncio.create_task(together.answer(["word"]))
        await asyncio.sleep(0)
        assert model.gate is not None
        model.gate.release(2)
        assert labels(await word) == ["word"]

    run(body)
    assert model.turns[1:] == [["word"]]


def test_those_that_come_within_the_wait_share_a_turn() -> None:
    """With `batch_wait_ms` the first request of an idle model waits for others."""
    model = Model()

    async def body() -> None:
        together = Batches(model, max_tokens=128, max_requests=16, wait_s=0.05)
        first = asyncio.create_task(together.answer(["a"]))
        await asyncio.sleep(0.01)
        await asyncio.gather(first, together.answer(["b"]))

    run(body)
    assert model.turns == [["a", "b"]]
