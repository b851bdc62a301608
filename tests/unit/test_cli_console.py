"""The console: plain lines, the live panel, JSON, quiet, nesting, threads, failures."""

from __future__ import annotations

import io
import json
import math
import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tutelage.cli.console import Console, plain
from tutelage.cli.panel import ASCII, UNICODE, block
from tutelage.cli.stages import HISTORY, StageState
from tutelage.progress import Progress

pytestmark = pytest.mark.unit


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


class Rig:
    """A console with its streams and its clock."""

    def __init__(
        self, *, terminal: bool = False, environ: dict[str, str] | None = None, **options: bool
    ) -> None:
        self.clock = Clock()
        self.out = Terminal() if terminal else io.StringIO()
        self.err = Terminal() if terminal else io.StringIO()
        environ = {"TERM": "xterm", "COLUMNS": "100"} if environ is None else environ
        self.console = Console(stdout=self.out, stderr=self.err, clock=self.clock, environ=environ, **options)

    @property
    def lines(self) -> list[str]:
        return self.err.getvalue().splitlines()


def test_the_console_is_a_progress() -> None:
    progress: Progress = Rig().console
    with progress.stage("x") as stage:
        stage.update(1, 2)


def test_a_plain_stage_says_start_and_end_with_its_time_and_figures() -> None:
    rig = Rig()
    with rig.console.stage("distill") as stage:
        stage.update(1, 2, loss=0.51234)
        rig.clock.now += 12.3
        stage.note("teacher amazon came back")
    assert rig.lines == [
        "distill: started",
        "distill: teacher amazon came back",
        "distill: done in 12 s  loss 0.512",
    ]


def test_a_plain_stage_writes_at_most_one_line_in_five_seconds() -> None:
    rig = Rig()
    with rig.console.stage("distill") as stage:
        for step in range(1, 101):
            rig.clock.now += 0.25
            stage.update(step, 100, loss=1 / step)
    progress = [line for line in rig.lines if "%" in line]
    assert len(progress) == 5
    assert progress[0] == "distill: 20 %  loss 0.050  20 s left"
    assert rig.lines[-1] == "distill: done in 25 s  loss 0.010"


def test_a_failed_stage_is_marked_and_the_error_goes_on() -> None:
    rig = Rig()
    with pytest.raises(ZeroDivisionError), rig.console.stage("export"):
        rig.clock.now += 1 + 1 / 0
    assert rig.lines[-1] == "export: failed after 0.0 s"
    assert rig.console.stages == [{"name": "export", "seconds": 0.0, "ok": False}]


def test_ctrl_c_marks_a_stage_as_stopped() -> None:
    rig = Rig()
    with pytest.raises(KeyboardInterrupt), rig.console.stage("export"):
        raise KeyboardInterrupt
    assert rig.lines[-1].startswith("export: stopped after")


def test_stages_nest_in_one_thread_and_stand_alone_in_another() -> None:
    rig = Rig()

    def other() -> None:
        with rig.console.stage("other"):
            pass

    with rig.console.stage("finetune"), rig.console.stage("movies"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    names = [stage["name"] for stage in rig.console.stages]
    assert names == ["other", "finetune/movies", "finetune"]


def test_updates_from_many_threads_all_arrive() -> None:
    rig = Rig()
    with rig.console.stage("distill") as stage:

        def work(number: int) -> None:
            for step in range(200):
                stage.note(f"{number}:{step}")

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len({line for line in rig.lines if re.fullmatch(r"distill: \d:\d+", line)}) == 800


def test_an_update_after_the_end_is_ignored() -> None:
    rig = Rig()
    with rig.console.stage("x") as stage:
        pass
    stage.update(1, 2, loss=1.0)
    stage.note("late")
    assert rig.lines == ["x: started", "x: done in 0.0 s"]


def test_json_has_stdout_for_itself() -> None:
    rig = Rig(as_json=True)
    with rig.console.stage("x"):
        rig.console.say("hello")
    rig.console.table("t", ["a"], [[1]])
    rig.console.result({"loss": float("nan"), "path": Path("a/b")}, "for people")
    assert json.loads(rig.out.getvalue()) == {"loss": None, "path": "a/b"}
    assert "hello" in rig.lines


def test_a_second_result_is_a_mistake() -> None:
    rig = Rig()
    rig.console.result({}, "one")
    with pytest.raises(RuntimeError, match="one result"):
        rig.console.result({}, "two")
    assert rig.out.getvalue() == "one\n"


def test_quiet_says_warnings_and_the_result_only() -> None:
    rig = Rig(quiet=True)
    with rig.console.stage("x") as stage:
        stage.note("n")
        stage.update(1, 1)
        rig.console.say("hello")
        rig.console.warn("careful")
    rig.console.error("broken", "mend it")
    rig.console.result({}, "answer")
    assert rig.lines == ["warning: careful", "error: broken", "  fix: mend it"]
    assert rig.out.getvalue() == "answer\n"


def test_quiet_holds_in_a_terminal_too() -> None:
    rig = Rig(quiet=True, terminal=True)
    with rig.console.stage("x"):
        rig.console.say("hello")
    assert rig.err.getvalue() == ""


def test_a_table_aligns_numbers_to_the_right_and_is_whole_in_a_pipe() -> None:
    rig = Rig()
    rig.console.table("models", ["name", "size"], [["x" * 200, 1200], ["student", None]])
    header, first, second = rig.out.getvalue().splitlines()[2:]
    assert header == "name" + " " * 198 + " size"
    assert first == "x" * 200 + "  1,200"
    assert second.split() == ["student", "-"]


def test_a_table_keeps_to_the_width_of_a_terminal() -> None:
    rig = Rig(terminal=True, environ={"TERM": "xterm", "COLUMNS": "40", "NO_COLOR": "1"})
    rig.console.table("", ["name", "size"], [["x" * 200, 1200]])
    assert [len(line) for line in rig.out.getvalue().splitlines()][1] == 40
    assert "…" in rig.out.getvalue()


def test_colour_follows_no_color_and_the_stream() -> None:
    assert "\x1b[31m" in _error_in(Rig(terminal=True))
    assert "\x1b" not in _error_in(Rig(terminal=True, environ={"TERM": "xterm", "NO_COLOR": "1"}))
    assert "\x1b" not in _error_in(Rig())


def _error_in(rig: Rig) -> str:
    rig.console.error("broken")
    return rig.err.getvalue()


def test_a_dumb_terminal_gets_plain_lines() -> None:
    rig = Rig(terminal=True, environ={"TERM": "dumb"})
    with rig.console.stage("x"):
        pass
    assert rig.lines == ["x: started", "x: done in 0.0 s"]


def test_a_terminal_keeps_one_line_a_finished_stage() -> None:
    rig = Rig(terminal=True)
    with rig.console.stage("fetch") as stage:
        stage.note("4 files")
    with rig.console.stage("finetune"):
        for name in ("movies", "amazon"):
            with rig.console.stage(name) as stage:
                stage.update(1, 1, loss=0.25)
    rig.console.close()
    lines = _without_control(rig.err.getvalue()).splitlines()
    kept = [line for line in lines if line.lstrip().startswith(("✓", "4 files"))]
    assert kept == [
        "  ✓ fetch                       0.0 s",
        "    4 files",
        "  ✓ finetune                    0.0 s",
        "    ✓ movies                    0.0 s   loss 0.250",
        "    ✓ amazon                    0.0 s   loss 0.250",
    ]
    assert "\x1b[?25h" in rig.err.getvalue()  # the cursor is shown again


def _without_control(text: str) -> str:
    """What is left on the screen: frames that were drawn over are gone."""
    text = re.sub(r"[^\n]*\x1b\[2K", "", text)
    return re.sub(r"\x1b\[[?0-9;]*[A-Za-z]|\r", "", text)


def _running(**figures: float | str) -> StageState:
    clock = Clock()
    state = StageState("distill", None, clock)
    for step in range(11):
        clock.now += 1
        state.update(step, 40, {**figures, "loss": 1 - step / 20})
    return state


def test_a_running_stage_shows_bar_share_eta_figures_and_a_sparkline() -> None:
    head, figures = (line.plain for line in block(_running(accuracy=0.75), 100, UNICODE))
    assert re.fullmatch(r"  \S distill +11 s   ━{6}─{20}   25 %   30 s left", head)
    assert figures.strip() == "accuracy 0.750   loss 0.500   █▇▇▆▅▅▄▃▂▂▁"


def test_an_eta_of_five_seconds_is_not_worth_a_word() -> None:
    clock = Clock()
    state = StageState("x", None, clock)
    for step in range(6):
        clock.now += 1
        state.update(step, 10, {})
    assert state.left == 5.0
    assert "left" not in block(state, 100, UNICODE)[0].plain


@pytest.mark.parametrize("width", [20, 30, 40, 56, 75, 76, 100, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    state = _running(accuracy=0.75, teachers=3, examples_a_second=1234.5)
    state.notes.append("a long note " * 20)
    inner = StageState("a name that is much too long for its column", state, state.clock)
    inner.close("done")
    assert all(len(line.plain) <= max(width, 30) for line in block(state, width, UNICODE))


def test_without_utf_8_the_panel_is_ascii() -> None:
    state = _running()
    text = "\n".join(line.plain for line in block(state, 100, ASCII))
    assert text.isascii()
    state.close("done")
    assert block(state, 100, ASCII)[0].plain.startswith("  + distill")


def test_notes_of_an_ended_stage_are_all_kept() -> None:
    state = _running()
    state.notes += [f"note {number}" for number in range(20)]
    assert sum("note" in line.plain for line in block(state, 100, UNICODE)) == 5
    state.close("done")
    assert sum("note" in line.plain for line in block(state, 100, UNICODE)) == 20


def test_the_history_of_the_loss_stays_small_and_keeps_its_shape() -> None:
    state = StageState("x", None, Clock())
    for step in range(20_000):
        state.update(step, 20_000, {"loss": 20_000.0 - step})
    assert HISTORY // 4 <= len(state.losses) < HISTORY
    assert state.losses == sorted(state.losses, reverse=True)
    assert state.losses[-1] < 200


def test_a_loss_that_is_no_number_leaves_the_sparkline_alone() -> None:
    state = StageState("x", None, Clock())
    state.update(1, 2, {"loss": math.nan})
    state.update(1, 2, {"loss": "n/a"})
    assert state.losses == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (float("inf"), None),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.array([1.0, np.nan]), [1.0, None]),
        ({1: (1, 2)}, {"1": [1, 2]}),
        (True, True),
        (Path("x"), "x"),
    ],
)
def test_json_holds_plain_values_only(value: Any, expected: Any) -> None:
    assert plain(value) == expected
    json.dumps(plain(value), allow_nan=False)
