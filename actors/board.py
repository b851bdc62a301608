"""The board: where student workers say how far they are and that they live, and the driver reads it."""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

Post = dict[str, Any]
BEAT_S = 3.0
"""How often a worker says that it lives."""


class Poster(Protocol):
    """What a worker needs of the board."""

    def post(self, topic: str, post: Post) -> None:
        """Say something, without waiting for anybody to hear it."""

    def beat(self, topic: str) -> None:
        """Say only that somebody lives."""

    def ages(self) -> dict[str, float]:
        """Seconds since the last sign of life of each topic."""
        ...


class Board:
    """The newest post of each topic. Old ones are of no use to a display, so memory stays small."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._posts: dict[str, Post] = {}
        self._heard: dict[str, float] = {}
        self._clock = clock

    def post(self, topic: str, post: Post) -> None:
        """Replace what the topic said before."""
        self._posts[topic] = post
        self.beat(topic)

    def beat(self, topic: str) -> None:
        """Note when the topic was heard, on this process's clock."""
        self._heard[topic] = self._clock()

    def ages(self) -> dict[str, float]:
        """Seconds since each topic was heard."""
        now = self._clock()
        return {topic: now - heard for topic, heard in self._heard.items()}

    def read(self) -> dict[str, Post]:
        """The newest post of each topic."""
        return dict(self._posts)


class NoBoard:
    """The twin that forgets everything."""

    def post(self, topic: str, post: Post) -> None:
        """Do nothing."""

    def beat(self, topic: str) -> None:
        """Do nothing."""

    def ages(self) -> dict[str, float]:
        """Nobody was heard."""
        return {}


class RayBoard:
    """A board in a Ray actor, seen from any process."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle

    @classmethod
    def start(cls) -> RayBoard:
        """Start the actor on the driver's node: no other takes it away, and it ends with the driver."""
        import ray

        native: Any = importlib.import_module("ray._raylet")
        here = {native.RAY_NODE_ID_KEY: ray.get_runtime_context().get_node_id()}
        actor = ray.remote(Board).options(num_cpus=0, max_concurrency=8, max_restarts=-1, label_selector=here)
        return cls(actor.remote())

    def post(self, topic: str, post: Post) -> None:
        """Send without waiting."""
        self.handle.post.remote(topic, post)

    def beat(self, topic: str) -> None:
        """Send without waiting."""
        self.handle.beat.remote(topic)

    def ages(self) -> dict[str, float]:
        """Ask the actor; nobody was heard where it does not answer."""
        import ray

        try:
            found: dict[str, float] = ray.get(self.handle.ages.remote(), timeout=5)
        except (ray.exceptions.RayError, TimeoutError):
            return {}
        return found

    def stop(self) -> None:
        """End the actor."""
        import ray

        ray.kill(self.handle)

    @contextmanager
    def watch(self, show: Callable[[dict[str, Post]], None], every_s: float = 0.5) -> Iterator[None]:
        """Call `show` with what the board says, again and again, while the body runs."""
        import ray

        done = threading.Event()

        def follow() -> None:
            while not done.wait(every_s):
                try:
                    show(ray.get(self.handle.read.remote(), timeout=10))
                except (ray.exceptions.RayError, TimeoutError):
                    continue  # a display that skips a beat is no reason to stop the work

        watcher = threading.Thread(target=follow, name="board", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join(timeout=15)


@contextmanager
def pulse(board: Poster, topic: str) -> Iterator[None]:
    """Say again and again that this process lives while the body runs, however long a step of it takes."""
    over = threading.Event()

    def say() -> None:
        board.beat(topic)
        while not over.wait(BEAT_S):
            board.beat(topic)

    heart = threading.Thread(target=say, name="pulse", daemon=True)
    heart.start()
    try:
        yield
    finally:
        over.set()
        heart.join(timeout=BEAT_S)
