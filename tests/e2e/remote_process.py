"""The test server in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def start(*arguments: str) -> tuple[subprocess.Popen[str], int]:
    """A server that listens, and its port."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'platform'}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "tutelage.testing.server", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        end(process)
        raise AssertionError(f"the server ended with {process.returncode}")
    return process, int(json.loads(line)["port"])


def end(process: subprocess.Popen[str]) -> None:
    """Kill the server."""
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


@contextmanager
def serving(*arguments: str) -> Iterator[str]:
    """The URL of a server that lives as long as the body."""
    process, port = start(*arguments)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        end(process)
