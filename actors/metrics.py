"""The stream as Prometheus metrics, on Ray's own metrics port of each node.

Ray puts `ray_` before each name. The port is `MetricsExportPort` in `ray.nodes()`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Protocol

from actors.live import View

LOG = logging.getLogger(__name__)

TAGS = ("run", "worker", "teacher")

COUNTERS = {
    "tutelage_teacher_replies": ("calls", "Replies that were used."),
    "tutelage_teacher_examples": ("examples", "Examples that were scored for this worker."),
    "tutelage_teacher_cached": ("cached", "Examples that the signal store answered."),
    "tutelage_teacher_bytes": ("bytes_received", "Bytes of signals that were received."),
    "tutelage_teacher_retries": ("retries", "Questions that were asked again."),
    "tutelage_teacher_hedges": ("hedges", "Questions put to a second replica because the first was slow."),
    "tutelage_teacher_lost_batches": ("lost_batches", "Batches that went on without this teacher."),
    "tutelage_teacher_wait_seconds": ("waited_s", "Time the student waited for this teacher."),
}
"""Metric -> key of the view of a channel, and what it counts."""

GAUGES = {
    "tutelage_teacher_queue_depth": ("queue_depth", "Questions under way."),
    "tutelage_teacher_replicas": ("replicas", "Replicas that can be asked."),
    "tutelage_teacher_replicas_starting": ("starting", "Replicas that are still starting."),
    "tutelage_teacher_respawns": ("respawns", "Replicas that took the place of a lost one so far."),
    "tutelage_teacher_left_out": ("left_out", "1 while batches go on without this teacher."),
    "tutelage_teacher_replies_per_second": ("replies_s", "Replies a second, over the last seconds."),
    "tutelage_teacher_bytes_per_position": ("bytes_position", "Bytes a position of what was received."),
    "tutelage_teacher_wait_share": (
        "wait_share",
        "Share of the training time spent waiting for this teacher.",
    ),
}


class Counting(Protocol):
    """A counter of ray.util.metrics."""

    def inc(self, value: float, tags: dict[str, str]) -> None:
        """Add so much."""


class Setting(Protocol):
    """A gauge of ray.util.metrics."""

    def set(self, value: float, tags: dict[str, str]) -> None:
        """Replace the value."""


class StreamMetrics:
    """What one student worker tells Prometheus of its teachers."""

    def __init__(
        self, run: str, worker: int, counters: Mapping[str, Counting], gauges: Mapping[str, Setting]
    ) -> None:
        self._tags = {"run": run, "worker": str(worker)}
        self._counters = counters
        self._gauges = gauges
        self._seen: dict[tuple[str, str], float] = {}
        self._broken = False

    @classmethod
    def on_ray(cls, run: str, worker: int) -> StreamMetrics:
        """Metrics of this process's Ray; none where Ray cannot make them."""
        try:
            from ray.util.metrics import Counter, Gauge

            counters = {name: Counter(name, text, TAGS) for name, (_, text) in COUNTERS.items()}
            gauges = {name: Gauge(name, text, TAGS) for name, (_, text) in GAUGES.items()}
        except Exception as error:  # metrics are for looking at; the training goes on without them
            LOG.warning("no metrics of the stream: %s", error)
            return cls(run, worker, {}, {})
        return cls(run, worker, counters, gauges)

    def publish(self, views: Mapping[str, View]) -> None:
        """Take over the views of all channels: counters by what they grew, gauges as they are.

        Never raises: what goes wrong is logged, and nothing is published from then on.
        """
        if self._broken:
            return
        try:
            for teacher, view in views.items():
                self._publish(teacher, view)
        except Exception as error:  # as above; once is enough to say so
            self._broken = True
            LOG.warning("no more metrics of the stream: %s", error)

    def _publish(self, teacher: str, view: View) -> None:
        tags = {**self._tags, "teacher": teacher}
        for name, counter in self._counters.items():
            value = view[COUNTERS[name][0]]
            grown = value - self._seen.get((name, teacher), 0)
            if grown > 0:
                counter.inc(grown, tags)
                self._seen[name, teacher] = value
        for name, gauge in self._gauges.items():
            gauge.set(view[GAUGES[name][0]], tags)
