"""Python in a process of its own, as a user of this checkout starts it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tutelage

ROOT = Path(tutelage.__file__).parents[2]


@contextmanager
def python(*arguments: str, folder: str | None = None, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """`python ARGUMENTS` with the checkout alone on its path and none of this process's settings.

    It leads a process group of its own, and is killed at the end.
    """
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "TUTELAGE", "PYTEST"))}
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        env=keep | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'platform'}"} | variables,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
