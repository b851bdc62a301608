"""What a run said is in one place, bounded, and can be read while it grows."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from actors.ray_setup import output_logged
from tutelage import run_log
from tutelage.cli.console import Console
from tutelage.cli.main import main
from tutelage.files import home
from tutelage.registry import open_registry
from tutelage.run_log import has_log, heard, lines_of

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTELAGE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("TUTELAGE_DB", raising=False)


def texts(folder: Path) -> list[str]:
    return [line["text"] for line in lines_of(folder)]


def test_steps_warnings_and_tracebacks_of_the_command_are_kept(tmp_path: Path) -> None:
    console, err = Console(stderr=io.StringIO()), None
    with run_log.run_log(tmp_path):
        with console.stage("distill") as stage:
            stage.note("two teachers")
        console.warn("half the rows are bad")
        try:
            raise KeyError("x")
        except KeyError as error:
            err = error
            logging.getLogger(run_log.STEPS).exception("failed")
    console.say("after its end")
    assert err is not None
    assert texts(tmp_path)[:2] == ["distill: started", "distill: two teachers"]
    assert "warning: half the rows are bad" in texts(tmp_path)
    assert "Traceback" in texts(tmp_path)[-1]
    assert {line["who"] for line in lines_of(tmp_path)} == {"driver"}


def test_what_workers_print_is_kept_with_who_and_where_and_stays_off_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As Ray hands it to the driver: from any node, whatever was printed."""
    from ray._private import worker

    data = {
        "pid": 71,
        "ip": "10.0.0.7",
        "actor_name": "TeacherHost",
        "is_err": True,
        "lines": ["loaded", " "],
    }
    with run_log.run_log(tmp_path), output_logged():
        worker.print_to_stdstream(data, ignore_prefix=False)  # type: ignore[no-untyped-call]
    (line,) = lines_of(tmp_path)
    assert (line["who"], line["text"]) == ("TeacherHost 71 on 10.0.0.7", "loaded")
    assert capsys.readouterr() == ("", "")


def test_the_autoscaler_is_heard_when_something_is_wrong(tmp_path: Path) -> None:
    from ray._private import worker

    data = {
        "pid": "autoscaler",
        "ip": "10.0.0.7",
        "lines": ["Node status", "Warning: no room for {'CPU': 3}"],
    }
    with run_log.run_log(tmp_path), output_logged():
        worker.print_to_stdstream(data, ignore_prefix=False)  # type: ignore[no-untyped-call]
    assert texts(tmp_path) == ["Warning: no room for {'CPU': 3}"]


def test_a_log_puts_nothing_of_its_own_on_the_terminal_and_keeps_warnings_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A traceback is in the log; the error is said once, by the command."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    with run_log.run_log(tmp_path):
        logging.getLogger(run_log.STEPS).error("Traceback ...")
        logging.getLogger("tutelage.signals").info("as usual")
        logging.getLogger("tutelage.signals").warning("the store is full")
    assert capsys.readouterr().err == "the store is full\n"
    assert texts(tmp_path) == ["Traceback ...", "as usual", "the store is full"]
    assert logging.getLogger().handlers == []


def test_a_log_is_bounded_and_its_newest_lines_are_kept_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_log, "FILE_BYTES", 2000)
    with run_log.run_log(tmp_path):
        for number in range(300):
            heard([f"line {number}"], "worker")
    kept = [int(text.split()[1]) for text in texts(tmp_path)]
    assert kept == list(range(kept[0], 300))
    assert len(kept) > 30
    assert sum(path.stat().st_size for path in (tmp_path / "log").iterdir()) <= 2000 * 5


def test_who_follows_gets_every_line_once_over_a_rotation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_log, "FILE_BYTES", 400)
    numbers = iter(range(40))
    lives = [True]

    def write_some(_seconds: float) -> None:
        for number in (next(numbers, None), next(numbers, None)):
            if number is None:
                lives[0] = False
            else:
                heard([f"line {number}"], "worker")

    with run_log.run_log(tmp_path):
        heard(["before"], "worker")
        place = run_log.whole_lines(tmp_path)
        found = [line["text"] for line in run_log.follow(tmp_path, place, lambda: lives[0], write_some)]
    assert found == [f"line {number}" for number in range(40)]
    assert (tmp_path / "log" / "run.jsonl.2").exists()


def test_a_line_that_a_kill_cut_short_spoils_no_other(tmp_path: Path) -> None:
    with run_log.run_log(tmp_path):
        heard(["whole"], "worker")
    with (tmp_path / "log" / "run.jsonl").open("a") as file:
        file.write('{"at": "20')
    with run_log.run_log(tmp_path):
        heard(["after"], "worker")
    assert texts(tmp_path) == ["whole", "after"]


@pytest.fixture
def ran() -> Path:
    """A finished run that said five lines."""
    runs = open_registry(home()).runs
    runs.start("d-1", "distill", "reviews", "", digest="abc")
    folder = home() / "runs" / "d-1"
    with run_log.run_log(folder):
        heard([f"line {number}" for number in range(5)], "worker 7 on box")
    runs.finish("d-1", "done")
    return folder


def call(*words: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    code = main(words, stdout=out, stderr=err)
    return code, out.getvalue(), err.getvalue()


def test_runs_logs_shows_the_last_lines_for_people_and_as_json(ran: Path) -> None:
    assert has_log(ran)
    code, out, _ = call("runs", "logs", "d-1", "--tail", "2")
    assert code == 0
    assert [line.split("  ", 1)[1] for line in out.splitlines()] == [
        "worker 7 on box  line 3",
        "worker 7 on box  line 4",
    ]
    data = json.loads(call("runs", "logs", "d-1", "--json")[1])
    assert [line["text"] for line in data["lines"]] == [f"line {number}" for number in range(5)]
    assert json.loads(call("runs", "logs", "d-1", "--tail", "0", "--json")[1])["lines"] == []
    code, out, _ = call("runs", "logs", "d", "--follow", "--json", "--tail", "1")
    assert [json.loads(line)["text"] for line in out.splitlines()] == ["line 4"]


def test_a_run_without_a_log_says_where_it_would_be() -> None:
    open_registry(home()).runs.start("d-1", "distill", "reviews", "", digest="abc")
    code, _, err = call("runs", "logs", "d-1")
    assert code == 2
    assert "has no log below" in err


def test_who_follows_loses_nothing_between_the_old_lines_and_the_first_look(tmp_path: Path) -> None:
    """What is written while the old lines are shown, and a line of which half was there, each come once."""
    path = tmp_path / "log" / "run.jsonl"
    with run_log.run_log(tmp_path):
        heard(["old"], "worker")
    text = path.read_text().replace("old", "halved")
    with path.open("a") as file:
        file.write(text[:20])
    place = run_log.whole_lines(tmp_path)
    assert [line["text"] for line in lines_of(tmp_path, place)] == ["old"]
    with path.open("a") as file:
        file.write(text[20:])
    with run_log.run_log(tmp_path):
        heard(["meanwhile"], "worker")
    assert [line["text"] for line in lines_of(tmp_path, place)] == ["old"]
    assert [line["text"] for line in run_log.follow(tmp_path, place, lambda: False)] == [
        "halved",
        "meanwhile",
    ]


@pytest.mark.parametrize("written", [1, 4])
def test_logs_follow_shows_each_line_once_when_it_grows_between_reading_and_looking(
    ran: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    """Also when the file is rotated in between."""
    monkeypatch.setattr(run_log, "FILE_BYTES", 700)
    read = run_log.lines_of

    def slow(*where: Any) -> list[dict[str, Any]]:
        found = read(*where)
        with run_log.run_log(ran):
            heard([f"line {number}" for number in range(5, 5 + written)], "worker 7 on box")
        return found

    monkeypatch.setattr(run_log, "lines_of", slow)
    _, out, _ = call("runs", "logs", "d-1", "--follow", "--json")
    assert [json.loads(line)["text"] for line in out.splitlines()] == [
        f"line {n}" for n in range(5 + written)
    ]
    assert (ran / "log" / "run.jsonl.1").exists() == (written == 4)
