"""Ctrl-C, SIGTERM and a closed terminal end a command alike: real processes, with a terminal of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
WAITING = """
import fcntl, functools, sys, termios, time, types
import typer
from tutelage.cli import main as cli

def wait(ctx: typer.Context) -> None:
    try:
        with ctx.obj.stage("wait"):
            print("ready", flush=True)
            time.sleep(60)
    finally:
        ctx.obj.say("cleaning up")
        open("cleaned", "w").close()

fcntl.ioctl(0, termios.TIOCSCTTY, 0)
module = sys.modules["waiting"] = types.ModuleType("waiting")
module.wait = wait
cli.main = functools.partial(cli.main, verbs=[cli.Verb("wait", "waiting:wait", "Wait", cli.LOOK)])
sys.argv[1:] = ["wait"]
cli.run()
"""


@contextmanager
def waiting(folder: Path, shell: str = "") -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A command at work on a terminal, started by `SHELL; exec`; and the terminal's other end."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        ["sh", "-c", f'{shell} exec "$@"', "sh", sys.executable, "-c", WAITING],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'platform'}"},
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process, ours
    finally:
        process.kill()
        process.communicate()
        os.close(ours)


@pytest.mark.parametrize(
    ("shell", "number", "code"),
    [
        ("", signal.SIGINT, 130),
        ("trap '' INT;", signal.SIGINT, 130),
        ("", signal.SIGTERM, 143),
    ],
)
def test_a_signal_ends_a_command_after_its_clean_up(
    shell: str, number: signal.Signals, code: int, tmp_path: Path
) -> None:
    """The exit code is the shell's; that a shell ignores SIGINT for its background changes nothing."""
    with waiting(tmp_path, shell) as (process, ours):
        process.send_signal(number)
        assert process.wait(30) == code
        said = os.read(ours, 10_000).decode()
    assert "stopped" in said
    assert "Traceback" not in said
    assert (tmp_path / "cleaned").exists()


def test_a_closed_terminal_ends_a_command_after_its_clean_up(tmp_path: Path) -> None:
    """What the clean-up says finds no terminal, and cannot break it."""
    with waiting(tmp_path) as (process, ours):
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, ours)  # the last end of the terminal is gone
        os.close(nothing)
        assert process.wait(30) == 129
    assert (tmp_path / "cleaned").exists()


def test_under_nohup_a_command_outlives_its_terminal(tmp_path: Path) -> None:
    """SIGHUP stays ignored, and SIGTERM ends it."""
    with waiting(tmp_path, "trap '' HUP;") as (process, _):
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
