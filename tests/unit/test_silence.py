"""A training whose workers are gone says so, with what it waits for, and ends."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest

from actors.board import Board, pulse
from actors.clock import ManualClock
from actors.silence import Silence
from tune_spaces.search.watch import Watch
from tutelage.cli.console import Console
from tutelage.config.search import SearchConfig
from tutelage.errors import TrainError

pytestmark = pytest.mark.unit


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_worker_that_lives_is_no_word_worth_and_one_that_is_gone_is_counted(clock: Clock) -> None:
    """As when the node of the student's worker is killed and no other has room."""
    board, free = Board(clock), [2.0, 4.0]
    silence = Silence(900, lambda: (free[0], free[1]), clock)
    silence.began("d-1", 1.5)
    for _ in range(100):
        clock.now += 3
        board.beat("d-1")
        assert silence.hear(board.ages()) == ""
    free[:] = [0.5, 2.0]
    clock.now += 25
    assert silence.hear(board.ages()) == (
        "no sign of life for 25 s; it waits for 1.5 CPUs, and 0.5 of 2 are free"
    )
    clock.now += 175
    assert silence.hear({}) == "no sign of life for 3 min; it waits for 1.5 CPUs, and 0.5 of 2 are free"
    board.beat("d-1:1")
    assert silence.hear(board.ages()) == ""


def test_a_training_that_nobody_begins_ends_with_what_it_lacked(clock: Clock) -> None:
    silence = Silence(60, lambda: (0.0, 2.0), clock)
    silence.began("d-1", 3)
    clock.now += 59
    assert silence.hear({}).startswith("its worker has not begun for 59 s; it waits for 3 CPUs")
    clock.now += 2
    with pytest.raises(
        TrainError, match="d-1: its worker has not begun for 61 s; it waits for 3 CPUs"
    ) as caught:
        silence.hear({})
    assert "ray.patience_s" in caught.value.fix


def test_the_longest_silence_is_told_and_what_ended_is_forgotten(clock: Clock) -> None:
    silence = Silence(900, lambda: (9.0, 9.0), clock)
    silence.began("a", 1)
    clock.now += 10
    silence.began("b", 1)
    clock.now += 20
    assert silence.hear({"b": 1.0}) == "its worker has not begun for 30 s"
    silence.ended("a")
    assert silence.hear({"b": 1.0}) == ""


def test_a_process_says_that_it_lives_though_a_step_takes_long() -> None:
    board = Board()
    with pulse(board, "d-1"):
        pass
    assert list(board.ages()) == ["d-1"]
    assert board.read() == {}


def test_a_step_that_waits_foretells_nothing() -> None:
    """Neither a line nor the panel says how long it takes while nothing happens."""
    clock, err = ManualClock(), io.StringIO()
    console = Console(stderr=err, clock=clock.now)
    with console.stage("distill") as stage:
        stage.update(0, 100)
        clock.advance(10)
        stage.update(10, 100)
        assert "left" in err.getvalue()
        stage.waits("no sign of life for 25 s; it waits for 1.5 CPUs, and 0 of 2 are free")
        clock.advance(10)
        stage.update(10, 100)
        last = err.getvalue().splitlines()[-1]
        assert "it waits for 1.5 CPUs" in last
        assert "left" not in last
        stage.waits("")
        clock.advance(10)
        stage.update(20, 100)
        assert "left" in err.getvalue().splitlines()[-1]


def test_a_search_that_no_core_is_free_for_says_so_and_ends(clock: Clock) -> None:
    """While a trial runs, nothing is waited for, however long it says nothing."""
    said: list[str] = []
    stage = SimpleNamespace(waits=said.append)
    silence = Silence(60, lambda: (0.0, 2.0), clock)
    watch = Watch(None, None, SearchConfig(), stage, None, silence)  # type: ignore[arg-type]

    def step(*statuses: str) -> str:
        clock.now += 20
        trials = [SimpleNamespace(trial_id=str(n), status=status) for n, status in enumerate(statuses)]
        watch.on_step_end(0, trials)
        return said[-1]

    for _ in range(5):
        assert step("RUNNING", "PENDING") == ""
    assert step("PENDING", "TERMINATED") == ""
    assert step("PENDING", "TERMINATED") == "no trial runs for 20 s; it waits for 1 CPUs, and 0 of 2 are free"
    assert step("TERMINATED", "TERMINATED") == ""
    for _ in range(4):
        step("PENDING")
    with pytest.raises(TrainError, match="search: no trial runs for 80 s"):
        step("PENDING")
