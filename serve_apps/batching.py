"""Which texts go to the model together, and whose turn it is: small requests first, none for ever last."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from serve_apps.schemas import Prediction

Predict = Callable[[list[str]], list[Prediction]]

TURN_TOKENS = 2048
"""Tokens of one turn of the model: a request that has just come waits for one turn at most before its own."""
PATIENCE_S = 5.0
TOKENS_A_SECOND = 1000
"""A request lets those pass that come within (its tokens / this) seconds after it, at most PATIENCE_S."""


@dataclass(eq=False)
class _Job:
    """One request on its way."""

    texts: list[str]
    costs: list[int]
    due: float
    done: asyncio.Future[list[Prediction]]
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

    The next turn goes to the request with the earliest due time, its arrival plus a patience that grows
    with its size. So one word that comes behind sixty long texts waits for one turn, and long texts wait
    for those alone that come before they are due.

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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._predict = predict
        self._max_tokens, self._max_requests, self._wait_s = max_tokens, max_requests, wait_s
        self._clock = clock
        self._jobs: list[_Job] = []
        self._running: asyncio.Task[None] | None = None

    async def answer(self, texts: list[str]) -> list[Prediction]:
        """One prediction for each text. A request that is cancelled takes no further turn.

        Raises:
            Exception: what `predict` raised for these texts alone.
        """
        # A character is a token at most, nearly always: an estimate is enough, the model bounds its passes.
        costs = [min(len(text) + 2, self._max_tokens) for text in texts]
        due = self._clock() + min(sum(costs) / TOKENS_A_SECOND, PATIENCE_S)
        job = _Job(texts, costs, due, asyncio.get_running_loop().create_future())
        self._jobs.append(job)
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        return await job.done

    async def _run(self) -> None:
        if self._wait_s:
            await asyncio.sleep(self._wait_s)
        while turn := self._turn():
            await self._take(turn)

    def _turn(self) -> list[_Share]:
        """The texts of the next turn, in due order: at least one, then as many as TURN_TOKENS hold."""
        self._jobs = sorted((job for job in self._jobs if not job.done.done()), key=lambda job: job.due)
        turn: list[_Share] = []
        room = TURN_TOKENS
        for job in self._jobs[: self._max_requests]:
            first = job.given
            while job.given < len(job.texts) and (
                job.costs[job.given] <= room or not (turn or job.given > first)
            ):
                room -= job.costs[job.given]
                job.given += 1
            if job.given > first:
                turn.append(_Share(job, job.texts[first : job.given]))
            if job.given < len(job.texts):
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
