"""Freed memory is used again by the process that freed it."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import sys
from actors.allocator import keep_freed_memory
from tests.unit.page_faults import page_faults

kept = sys.argv[1] == "keep" and keep_freed_memory()
print(int(kept), page_faults())
"""


def faults(way: str) -> tuple[bool, int]:
    """Whether memory is kept, and the page faults of the third of three arrays of 64 MiB."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, way], cwd=ROOT, capture_output=True, text=True, check=True
    )
    kept, count = done.stdout.split()
    return kept == "1", int(count)


def test_a_large_array_finds_its_pages_again() -> None:
    """64 MiB are 16,384 pages: with glibc all of them fault each time, or none after the first."""
    kept, after = faults("keep")
    assert kept == (platform.libc_ver()[0] == "glibc")
    if kept:
        assert after < 1000 < 10_000 < faults("leave")[1]
