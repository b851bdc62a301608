"""The command: verbs, flags anywhere, exit codes, messages, crash logs, Ctrl-C."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import types
import warnings
from pathlib import Path
from typing import Annotated

import pytest
import typer

from tutelage.cli import quiet
from tutelage.cli.main import VERBS, Verb, load_verb, main, split_flags
from tutelage.errors import ConfigError, GateError, ServeError
from tutelage.files import home

pytestmark = pytest.mark.unit


def works(ctx: typer.Context, name: str = "you", count: Annotated[int, typer.Option("--count")] = 1) -> None:
    """Greets."""
    ctx.obj.result({"hello": name, "count": count}, f"hello {name} x{count}")


def fails(ctx: typer.Context, how: str) -> None:
    """Fails in many ways."""
    errors: dict[str, BaseException] = {
        "gate": GateError("int8 agrees on 0.91", fix="lower export.min_agreement"),
        "config": ConfigError("train.lr is x", fix="a number"),
        "serve": ServeError("no answer"),
        "bug": ZeroDivisionError("first line\nsecond line"),
        "ctrl-c": KeyboardInterrupt(),
        "exit": typer.Exit(7),
        "pipe": BrokenPipeError(),
    }
    with ctx.obj.stage("work"):
        raise errors[how]


@pytest.fixture(autouse=True)
def _fake_module(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("fake_verbs")
    module.works, module.fails = works, fails  # type: ignore[attr-defined]
    module.app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)  # type: ignore[attr-defined]
    module.app.command("one")(works)  # type: ignore[attr-defined]
    module.app.command("two")(works)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fake_verbs", module)


FAKE = (
    Verb("works", "fake_verbs:works", "Greets", "A"),
    Verb("fails", "fake_verbs:fails", "Fails", "A"),
    Verb("many", "fake_verbs:app", "Several", "B"),
    Verb("absent", "no_such_module:verb", "Is not there", "B"),
)


def call(*words: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    code = main(words, stdout=out, stderr=err, verbs=FAKE)
    return code, out.getvalue(), err.getvalue()


def test_a_verb_answers_on_stdout() -> None:
    assert call("works", "--count", "2") == (0, "hello you x2\n", "")


@pytest.mark.parametrize(
    "words", [("--json", "works"), ("works", "--json"), ("works", "--json", "--count", "1")]
)
def test_json_may_stand_before_and_after_the_verb(words: tuple[str, ...]) -> None:
    code, out, _ = call(*words)
    assert (code, json.loads(out)) == (0, {"hello": "you", "count": 1})


def test_flags_after_a_double_dash_are_words() -> None:
    assert split_flags(["a", "--json", "--", "--json", "--quiet"]) == (
        {"--json"},
        ["a", "--", "--json", "--quiet"],
    )


def test_a_group_of_verbs_has_verbs() -> None:
    assert call("many", "two", "--count", "3")[1] == "hello you x3\n"
    code, out, err = call("many")
    assert (code, out) == (2, "")
    assert "one" in err
    assert "two" in err


@pytest.mark.parametrize(
    ("how", "code", "says"),
    [
        ("gate", 1, "error: int8 agrees on 0.91\n  fix: lower export.min_agreement\n"),
        ("config", 2, "error: train.lr is x\n  fix: a number\n"),
        ("serve", 3, "error: no answer\n"),
        ("bug", 3, "error: unexpected ZeroDivisionError: first line\n  fix: the traceback is in "),
        ("ctrl-c", 130, "work: stopped after 0.0 s\nerror: stopped\n"),
        ("exit", 7, "work: failed after 0.0 s\n"),
    ],
)
def test_each_error_has_its_code_and_words(how: str, code: int, says: str) -> None:
    found, out, err = call("fails", "--", how) if how == "exit" else call("fails", how)
    assert found == code
    assert out == ""
    assert says in err


def test_with_json_a_failure_is_an_answer_too() -> None:
    code, out, err = call("fails", "gate", "--json")
    assert code == 1
    assert json.loads(out) == {
        "error": {
            "kind": "GateError",
            "problem": "int8 agrees on 0.91",
            "fix": "lower export.min_agreement",
            "exit_code": 1,
        }
    }
    assert "error: int8 agrees on 0.91" in err


def test_a_bug_leaves_a_log_with_command_and_traceback() -> None:
    _, out, _ = call("fails", "bug", "--json")
    log = Path(json.loads(out)["error"]["log"])
    assert log.parent == Path(os.environ["TUTELAGE_HOME"]) / "logs"
    text = log.read_text()
    assert text.startswith("command: tutelage fails bug --json\n")
    assert "ZeroDivisionError: first line\nsecond line" in text
    assert "in fails" in text


def test_a_bug_is_reported_even_when_home_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("TUTELAGE_HOME", str(blocked / "home"))
    code, out, _ = call("fails", "bug", "--json")
    assert code == 3
    log = Path(json.loads(out)["error"]["log"])
    assert "ZeroDivisionError" in log.read_text()
    log.unlink()
    log.parent.rmdir()


def test_debug_prints_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    call("--debug", "fails", "config")
    assert "Traceback" in capsys.readouterr().err
    call("fails", "config")
    assert "Traceback" not in capsys.readouterr().err


def test_a_closed_pipe_ends_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    replaced: list[int] = []
    monkeypatch.setattr(os, "dup2", lambda source, target: replaced.append(target))
    code, _, err = call("fails", "pipe")
    assert code == 141
    assert "error" not in err
    assert len(replaced) == 1


@pytest.mark.parametrize(
    ("words", "says", "fix"),
    [
        (("wroks",), "No such command 'wroks'. Did you mean 'works'?", "`tutelage --help`"),
        (("works", "--cuont", "1"), "--cuont", "`tutelage works --help`"),
        (("works", "--count", "x"), "'--count': Input should be a valid integer", "`tutelage works --help`"),
        (("fails",), "Missing argument", "`tutelage fails --help`"),
        (("many", "thre"), "No such command 'thre'", "`tutelage many --help`"),
    ],
)
def test_wrong_usage_is_exit_code_2_with_a_fix(words: tuple[str, ...], says: str, fix: str) -> None:
    code, out, err = call(*words)
    assert (code, out) == (2, "")
    assert says in err
    assert fix in err


def test_help_lists_all_verbs_and_imports_none(capsys: pytest.CaptureFixture[str]) -> None:
    """One of them does not even exist."""
    assert call("--help")[0] == 0
    text = capsys.readouterr().out
    for verb in FAKE:
        assert f"  {verb.name}" in text
        assert verb.words in text
    assert call()[0] == 0
    assert capsys.readouterr().out == text


def test_version() -> None:
    from tutelage import __version__

    assert call("--version") == (0, f"tutelage {__version__}\n", "")
    assert json.loads(call("--version", "--json")[1]) == {"version": __version__}


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_every_verb_of_the_table_is_there_and_has_help(verb: Verb) -> None:
    command = load_verb(verb)
    assert command.help
    assert command.name == verb.name


def test_silencing_keeps_what_the_user_has_set() -> None:
    environ = {"TRANSFORMERS_VERBOSITY": "info", "PYTHONWARNINGS": "default"}
    quiet.quiet_libraries(environ)
    assert environ["TRANSFORMERS_VERBOSITY"] == "info"
    assert environ["HF_HUB_DISABLE_PROGRESS_BARS"] == "1"
    assert environ["RAY_TRAIN_ENABLE_WORKER_STRUCTURED_LOGGING"] == "0"


def test_silencing_raises_log_levels_that_nobody_set(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = logging.getLogger("transformers")
    monkeypatch.setattr(mine, "level", logging.DEBUG)
    monkeypatch.setattr(logging.getLogger("filelock"), "level", logging.NOTSET)
    with warnings.catch_warnings():
        quiet.quiet_libraries({})
        assert mine.level == logging.DEBUG
        assert logging.getLogger("filelock").level == logging.ERROR


def test_a_warning_where_no_home_can_be_made_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TUTELAGE_HOME", str(tmp_path / "file" / "home"))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        quiet.quiet_libraries({})
        warnings.warn("old", UserWarning, stacklevel=1)


def test_warnings_of_libraries_are_kept_in_a_file(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Off the terminal, and not lost: each stands with its place in a file that stays bounded."""
    monkeypatch.setattr(quiet, "MOST_BYTES", 50)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        quiet.quiet_libraries({})
        for text in ("weights are\nmade anew", "old"):
            warnings.warn(text, UserWarning, stacklevel=1)
    logs = home() / "logs"
    assert "UserWarning" in (logs / "warnings.1.log").read_text()
    assert "test_cli_main.py" in (logs / "warnings.1.log").read_text()
    assert (logs / "warnings.1.log").read_text().endswith(": weights are made anew\n")
    assert (logs / "warnings.log").read_text().endswith(": old\n")
    assert capfd.readouterr() == ("", "")
