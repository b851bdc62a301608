"""Views of teachers: what workers say together, the table of it, and what Prometheus is told."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from actors.live import cached_share, teacher_table, together, topic, views_of
from actors.metrics import COUNTERS, GAUGES, StreamMetrics
from tutelage.progress import Table
from tutelage.signals.spec import PayloadSpec

pytestmark = pytest.mark.unit

PAYLOADS = {"movies": PayloadSpec("dense", 2), "amazon": PayloadSpec("topk", 900, "fp16", 64)}


def view(**changed: float) -> dict[str, float]:
    """A teacher that is well."""
    return {
        "calls": 40,
        "examples": 320,
        "positions": 320,
        "cached": 80,
        "bytes_sent": 9000,
        "bytes_received": 3200,
        "retries": 0,
        "hedges": 0,
        "lost_batches": 0,
        "worked_s": 4.0,
        "waited_s": 1.5,
        "p50_ms": 12.0,
        "queue_p50_ms": 3.0,
        "queue_depth": 2,
        "replicas": 2,
        "starting": 0,
        "respawns": 0,
        "replies_s": 8.25,
        "bytes_position": 10,
        "left_out": 0,
        "wait_share": 0.1,
        **changed,
    }


class Recorder:
    """The twin of a metric: what it was told last or in sum."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, ...], float] = {}

    def inc(self, value: float, tags: dict[str, str]) -> None:
        assert value > 0
        key = tuple(tags.values())
        self.values[key] = self.values.get(key, 0) + value

    def set(self, value: float, tags: dict[str, str]) -> None:
        self.values[tuple(tags.values())] = value


class Broken:
    """A metric that cannot be told anything."""

    def inc(self, value: float, tags: dict[str, str]) -> None:
        raise RuntimeError("the agent is gone")


def cells(table: Table, row: int = 0) -> dict[str, str]:
    return dict(zip(table.columns, table.rows[row].cells, strict=True))


def recorded() -> tuple[StreamMetrics, dict[str, Recorder]]:
    told = {name: Recorder() for name in (*COUNTERS, *GAUGES)}
    counters = {name: told[name] for name in COUNTERS}
    return StreamMetrics("run-1", 3, counters, {name: told[name] for name in GAUGES}), told


def test_a_counter_grows_to_the_value_of_the_view_and_a_gauge_is_as_it_is() -> None:
    metrics, told = recorded()
    for calls, depth in ((40, 2), (40, 5), (52, 1)):
        metrics.publish({"movies": view(calls=calls, queue_depth=depth)})
    key = ("run-1", "3", "movies")
    assert told["tutelage_teacher_replies"].values == {key: 52}
    assert told["tutelage_teacher_queue_depth"].values == {key: 1}
    assert told["tutelage_teacher_retries"].values == {}


def test_every_metric_stands_for_a_figure_of_the_view() -> None:
    metrics, told = recorded()
    metrics.publish({"movies": dict.fromkeys(view(), 1.0)})
    assert all(set(one.values.values()) == {1.0} for one in told.values())


def test_a_metric_that_fails_is_said_once_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    metrics = StreamMetrics("run-1", 0, {"tutelage_teacher_replies": Broken()}, {})
    with caplog.at_level(logging.WARNING):
        metrics.publish({"movies": view()})
        metrics.publish({"movies": view(calls=50)})
    assert [record.getMessage() for record in caplog.records] == [
        "no more metrics of the stream: the agent is gone"
    ]


def test_views_of_workers_add_up_and_the_fleet_is_counted_once() -> None:
    one, other = view(calls=10, wait_share=0.2, replicas=2), view(calls=30, wait_share=0.4, replicas=3)
    whole = together([one, other])
    assert (whole["calls"], whole["replicas"], whole["queue_depth"]) == (40, 3, 4)
    assert whole["wait_share"] == pytest.approx(0.3)
    assert whole["bytes_position"] == 10


def test_posts_of_all_workers_of_a_run_are_read_and_of_no_other() -> None:
    posts: dict[str, dict[str, Any]] = {
        topic("run", 0): {"teachers": {"movies": view(calls=1)}},
        topic("run", 1): {"teachers": {"movies": view(calls=2)}},
        topic("run-2", 0): {"teachers": {"movies": view(calls=100)}},
    }
    assert views_of(posts, "run")["movies"]["calls"] == 3


def test_a_row_says_what_a_teacher_does_just_now() -> None:
    table = teacher_table({"movies": view(starting=1)}, PAYLOADS, "sequence-classification")
    assert cells(table) == {
        "teacher": "movies",
        "payload": "dense fp32",
        "replicas": "2 (+1)",
        "queue": "2",
        "replies/s": "8.2",
        "waiting": "10%",
        "bytes/text": "10",
        "stored": "20%",
        "retries": "0",
        "hedges": "0",
    }
    assert not table.rows[0].warn


def test_a_teacher_that_is_left_out_is_marked_and_its_lost_batches_are_shown() -> None:
    views = {"movies": view(), "amazon": view(left_out=1, lost_batches=7, replicas=0)}
    table = teacher_table(views, PAYLOADS, "causal-lm")
    assert [row.warn for row in table.rows] == [False, True]
    assert [cells(table, n)["lost"] for n in (0, 1)] == ["0", "7 now"]
    assert [cells(table, n)["replies/s"] for n in (0, 1)] == ["8.2", "-"]
    assert "bytes/token" in table.columns


def test_an_ended_training_has_no_queue_and_no_rate() -> None:
    table = teacher_table({"movies": view()}, PAYLOADS, "token-classification", ended=True)
    assert {"queue", "replies/s"}.isdisjoint(table.columns)
    assert "bytes/word" in table.columns


def test_before_the_first_reply_there_are_dashes() -> None:
    nothing = view(calls=0, examples=0, positions=0, cached=0)
    row = cells(teacher_table({"movies": nothing}, PAYLOADS, "sequence-classification"))
    assert (row["stored"], row["bytes/text"]) == ("-", "-")
    assert cached_share(nothing) is None


def test_no_teacher_is_an_empty_table() -> None:
    assert teacher_table({}, {}, "sequence-classification") == Table((), ())
