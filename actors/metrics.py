"""The stream as Prometheus metrics, on Ray's own metrics port of each node.

Ray puts `ray_` before each name. The port is `MetricsExportPort` in `ray.nodes()`.
"""

from __future__ import annotations

from typing import Any

TAGS = ("run", "worker", "teacher")

COUNTERS = {
    "tutelage_teacher_replies": ("calls", "Replies that were used."),
    "tutelage_teacher_examples": ("examples", "Examples that were scored for this worker."),
    "tutelage_teacher_cached": ("cached", "Examples that the signal store answered."),
    "tutelage_teacher_bytes": ("bytes_received", "Bytes of signals that were received."),
    "tutelage_teacher_retries": ("retries", "Questions that were asked again."),
    "tutelage_teacher_hedges": ("hedges", "Questions put to a second replica because the first was slow."),
    "tutelage_teacher_wait_seconds": ("waited_s", "Time the student waited for this teacher."),
}
"""Metric -> key of the view of a channel, and what it counts."""

GAUGES = {
    "tutelage_teacher_queue_depth": ("queue_depth", "Questions under way."),
    "tutelage_teacher_replicas": ("replicas", "Replicas that can be asked."),
    "tutelage_teacher_replies_per_second": ("replies_s", "Replies a second, over the last seconds."),
    "tutelage_teacher_bytes_per_position": ("bytes_position", "Bytes a position of what was received."),
    "tutelage_teacher_wait_share": (
        "wait_share",
        "Share of the training time spent waiting for this teacher.",
    ),
}


class StreamMetrics:
    """What one student worker tells Prometheus of its teachers. Needs a connected Ray."""

    def __init__(self, run: str, worker: int) -> None:
        from ray.util.metrics import Counter, Gauge

        self._tags = {"run": run, "worker": str(worker)}
        self._counters = {n: Counter(n, text, TAGS) for n, (_, text) in COUNTERS.items()}
        self._gauges = {n: Gauge(n, text, TAGS) for n, (_, text) in GAUGES.items()}
        self._seen: dict[tuple[str, str], float] = {}

    def publish(self, views: dict[str, dict[str, Any]]) -> None:
        """Take over the views of all channels: counters by what they grew, gauges as they are."""
        for teacher, view in views.items():
            tags = {**self._tags, "teacher": teacher}
            for name, (key, _) in COUNTERS.items():
                grown = view[key] - self._seen.get((name, teacher), 0)
                if grown > 0:
                    self._counters[name].inc(grown, tags)
                    self._seen[name, teacher] = view[key]
            for name, (key, _) in GAUGES.items():
                self._gauges[name].set(view[key], tags)
