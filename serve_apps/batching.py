"""Which texts go to the model together, and whose turn it is: small requests first, none for ever last."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from serve_apps.replies import RefusedError
from serve_apps.schemas import Prediction

Predict = Callable[[list[str]], list[Prediction]]

TURN_TOKENS = 1024
"""Tokens of one turn of the model."""
WAIT_S = 25.0
"""A request that would wait longer is refused at once: Serve's proxy gives an answer up after 30 s."""
_MEMORY = 0.8
"""What the speed of the turns before weighs against that of the last one."""


@dataclass(eq=False)
class _Job:
    """One request on its way."""

    texts: list[str]
    costs: list[int]
    done: asyncio.Future[list[Prediction]]
    left: int
    """Tokens that had no turn yet."""
    given: int = 0
    """Texts that had their turn."""
    found: list[Prediction] = field(default_factory=list)


@dataclass(frozen=True)
class _Share:
    """What one request gets of a turn."""

    job: _Job
    texts: list[str]


class Batches:
    """Answers requests in turns. A turn holds texts of several requests, or a part of a large one.

    Turns go by two orders in alternation: the request with the fewest tokens left first, and the oldest
    first. So one word that comes behind a thousand long texts waits for two turns, and however many words
    come, the oldest request gets every second turn.

    Args:
        predict: one prediction for each text; runs in a thread, one turn at a time.
        max_tokens: what the model reads of a text.
        max_requests: requests of one turn.
        wait_s: how long the first request waits for others when the model is free.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        predict: Predict,
        *,
        max_tokens: int,
        max_requests: int,
        wait_s: float = 0.0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._predict = predict
        self._max_tokens, self._max_requests, self._wait_s = max_tokens, max_requests, wait_s
        self._clock = clock
        self._jobs: list[_Job] = []
        self._oldest_first = False
        self._tokens_a_second = 0.0
        self._running: asyncio.Task[None] | None = None

    async def answer(self, texts: list[str]) -> list[Prediction]:
        """One prediction for each text. A request that is cancelled takes no further turn.

        Raises:
            RefusedError: a 503 that says when to return: what comes before it fills WAIT_S already.
            Exception: what `predict` raised for these texts alone.
        """
        # A character is a token at most, nearly always: an estimate is enough, the model bounds its passes.
        costs = [min(len(text) + 2, self._max_tokens) for text in texts]
        job = _Job(texts, costs, asyncio.get_running_loop().create_future(), sum(costs))
        self._check_wait(job)
        self._jobs.append(job)
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        return await job.done

    def _check_wait(self, job: _Job) -> None:
        self._jobs = [one for one in self._jobs if not one.done.done()]
        if not self._jobs or not self._tokens_a_second:
            return
        own = job.left + sum(one.left for one in self._jobs if one.left <= job.left)
        larger = sum(one.left for one in self._jobs if one.left > job.left)
        # Every second turn is the oldest request's, which may be a larger one.
        wait_s = (own + min(own, larger)) / self._tokens_a_second
        if wait_s > WAIT_S:
            headers = {"Retry-After": str(math.ceil(wait_s - WAIT_S))}
            raise RefusedError(503, f"{wait_s:.0f} s of work are waiting", headers=headers)

    async def _run(self) -> None:
        if self._wait_s:
            await asyncio.sleep(self._wait_s)
        while turn := self._turn():
            began = self._clock()
            await self._take(turn)
            cost = sum(min(len(text) + 2, self._max_tokens) for share in turn for text in share.texts)
            if 2 * cost >= TURN_TOKENS:
                self._learn(cost / max(self._clock() - began, 1e-6))

    def _learn(self, speed: float) -> None:
        """From turns that are full by half at least: a lone word measures what a call costs, not a token."""
        before = self._tokens_a_second or speed
        self._tokens_a_second = _MEMORY * before + (1 - _MEMORY) * speed

    def _turn(self) -> list[_Share]:
        """The texts of the next turn: at least one, then as many as TURN_TOKENS hold."""
        self._jobs = [job for job in self._jobs if not job.done.done() and job.left]
        order = self._jobs if self._oldest_first else sorted(self._jobs, key=lambda job: job.left)
        self._oldest_first = not self._oldest_first
        turn: list[_Share] = []
        room = TURN_TOKENS
        for job in order[: self._max_requests]:
            first = job.given
            while job.given < len(job.texts) and (
                job.costs[job.given] <= room or not (turn or job.given > first)
            ):
                room -= job.costs[job.given]
                job.left -= job.costs[job.given]
                job.given += 1
            if job.given > first:
                turn.append(_Share(job, job.texts[first : job.given]))
            if job.left:
                break
        return turn

    async def _take(self, turn: Sequence[_Share]) -> None:
        texts = [text for share in turn for text in share.texts]
        try:
            found = await asyncio.to_thread(self._predict, texts)
        except Exception as error:  # whatever the model raises belongs to the request that made it raise
            if len(turn) == 1:
                _fail(turn[0].job, error)
                return
            for share in turn:
                await self._take([share])
            return
        predictions = iter(found)
        for share in turn:
            share.job.found += [next(predictions) for _ in share.texts]
            if len(share.job.found) == len(share.job.texts) and not share.job.done.done():
                share.job.done.set_result(share.job.found)


def _fail(job: _Job, error: Exception) -> None:
    if not job.done.done():
        job.done.set_exception(error)
