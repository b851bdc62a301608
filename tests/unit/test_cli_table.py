"""The table under a step: aligned in a terminal, lines in a log, never wider than the terminal."""

from __future__ import annotations

import pytest

from tests.unit.test_cli_console import Clock, Rig
from tutelage.cli.panel import UNICODE, block
from tutelage.cli.stages import StageState
from tutelage.cli.text import narrow_table
from tutelage.progress import Row, Silent, Table

pytestmark = pytest.mark.unit

TABLE = Table(
    ("teacher", "payload", "replicas", "queue"),
    (
        Row(("movies", "dense fp32", "2", "14")),
        Row(("amazon", "top-64 fp16", "0 (+1)", "3"), warn=True),
    ),
)


def test_columns_align_and_figures_stand_right() -> None:
    assert narrow_table(TABLE.columns, [row.cells for row in TABLE.rows], 80) == [
        "teacher  payload      replicas  queue",
        "movies   dense fp32          2     14",
        "amazon   top-64 fp16    0 (+1)      3",
    ]


def test_columns_that_do_not_fit_are_left_out_from_the_right() -> None:
    lines = narrow_table(TABLE.columns, [row.cells for row in TABLE.rows], 32)
    assert lines[0] == "teacher  payload      replicas"
    assert narrow_table(TABLE.columns, [row.cells for row in TABLE.rows], 8) == [
        "teacher",
        "movies",
        "amazon",
    ]


def test_a_name_that_is_wider_than_the_terminal_is_cut() -> None:
    assert narrow_table(("teacher", "queue"), [("x" * 30, "1")], 10) == ["teacher", "xxxxxxxxx…"]


def _stage() -> StageState:
    state = StageState("distill", None, Clock())
    state.update(1, 4, {"loss": 0.5})
    state.table = TABLE
    return state


def test_a_running_step_shows_the_table_below_its_figures_and_marks_the_row_to_look_at() -> None:
    _head, figures, *table = (line.plain for line in block(_stage(), 100, UNICODE))
    assert "loss" in figures
    assert table == [
        "      teacher  payload      replicas  queue",
        "      movies   dense fp32          2     14",
        "    ! amazon   top-64 fp16    0 (+1)      3",
    ]


def test_the_table_stays_when_the_step_ends_and_notes_follow_it() -> None:
    state = _stage()
    state.notes.append("40 steps")
    state.close("done")
    lines = [line.plain.strip() for line in block(state, 100, UNICODE)]
    assert lines[1].startswith("teacher")
    assert lines[-1] == "40 steps"


@pytest.mark.parametrize("width", [20, 30, 44, 60, 100])
def test_no_line_of_a_table_is_wider_than_the_terminal(width: int) -> None:
    table = block(_stage(), width, UNICODE)[2:]
    assert len(table) == 3
    assert all(len(line.plain) <= width for line in table)


def test_a_log_gets_a_line_for_each_row_every_ten_seconds_and_at_the_end() -> None:
    rig = Rig()
    with rig.console.stage("distill") as stage:
        for _ in range(24):
            rig.clock.now += 0.5
            stage.table(TABLE)
    said = [line for line in rig.lines if "teacher" in line]
    assert said == 2 * [
        "distill: teacher movies, payload dense fp32, replicas 2, queue 14",
        "distill: ! teacher amazon, payload top-64 fp16, replicas 0 (+1), queue 3",
    ]


def test_a_table_after_the_end_is_ignored_and_quiet_hides_it() -> None:
    rig, quiet = Rig(), Rig(quiet=True)
    for console in (rig.console, quiet.console):
        with console.stage("x") as stage:
            if console is quiet.console:
                stage.table(TABLE)
        stage.table(TABLE)
    assert rig.lines == ["x: started", "x: done in 0.0 s"]
    assert quiet.lines == []


def test_the_table_is_not_part_of_the_json() -> None:
    rig = Rig(as_json=True)
    with rig.console.stage("x") as stage:
        stage.table(TABLE)
    rig.console.result({"a": 1})
    assert rig.out.getvalue().split() == ["{", '"a":', "1", "}"]


def test_the_silent_progress_takes_a_table() -> None:
    with Silent().stage("x") as stage:
        stage.table(TABLE)
