"""Whose turn it is: bounds of a turn, order, no starvation, faults that stay with their request."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_apps.batching import PATIENCE_S, TURN_TOKENS, Batches
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


def test_one_word_behind_large_requests_waits_for_one_turn() -> None:
    """Sixteen requests of 64 long texts are there; a word that comes then is in the very next turn."""
    model, clock = Model(), Clock()
    model.gate = threading.Semaphore(0)

    async def body() -> None:
        together = batches(model, clock)
        large = [asyncio.create_task(together.answer([LONG] * 64)) for _ in range(16)]
        while not model.turns:
            await asyncio.sleep(0.001)
        clock.now = 0.5
        word = asyncio.create_task(together.answer(["word"]))
        await asyncio.sleep(0)
        assert model.gate is not None
        model.gate.release(2)
        assert labels(await word) == ["word"]
        model.gate.release(1000)
        await asyncio.gather(*large)

    run(body)
    assert "word" in model.turns[1]
    assert len(model.turns[0]) == TURN_TOKENS // 128


def test_small_requests_without_end_do_not_starve_a_large_one() -> None:
    """Words keep coming; the large request is due after its patience and then goes before them."""
    model, clock = Model(), Clock()
    answered: list[str] = []

    async def body() -> None:
        together = batches(model, clock, max_requests=1)
        loop = asyncio.get_running_loop()
        tasks: list[asyncio.Task[Any]] = []

        def again(texts: list[str]) -> None:
            """With each turn half a second passes and the next word comes."""
            clock.now += 0.5
            if clock.now < 4 * PATIENCE_S:
                loop.call_soon_threadsafe(lambda: tasks.append(loop.create_task(together.answer(["word"]))))

        model.on_turn = again
        word = asyncio.create_task(together.answer(["word"]))
        answered.extend(labels(await together.answer([LONG] * 16)))
        assert clock.now <= 2 * PATIENCE_S
        await word
        while clock.now < 4 * PATIENCE_S:
            await asyncio.sleep(0.001)
        await asyncio.gather(*tasks)

    run(body)
    assert len(answered) == 16


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
