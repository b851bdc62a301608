"""The board: where student workers say how far they are, and the driver reads it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

Post = dict[str, Any]


class Poster(Protocol):
    """What a worker needs of the board."""

    def post(self, topic: str, post: Post) -> None:
        """Say something, without waiting for anybody to hear it."""


class Board:
    """The newest post of each topic. Old ones are of no use to a display, so memory stays small."""

    def __init__(self) -> None:
        self._posts: dict[str, Post] = {}

    def post(self, topic: str, post: Post) -> None:
        """Replace what the topic said before."""
        self._posts[topic] = post

    def read(self) -> dict[str, Post]:
        """The newest post of each topic."""
        return dict(self._posts)


class NoBoard:
    """The twin that forgets everything."""

    def post(self, topic: str, post: Post) -> None:
        """Do nothing."""


class RayBoard:
    """A board in a Ray actor, seen from any process."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle

    @classmethod
    def start(cls) -> RayBoard:
        """Start the actor; it ends with the driver."""
        import ray

        return cls(ray.remote(Board).options(num_cpus=0, max_concurrency=8).remote())

    def post(self, topic: str, post: Post) -> None:
        """Send without waiting."""
        self.handle.post.remote(topic, post)

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
