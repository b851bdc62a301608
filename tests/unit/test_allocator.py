"""Freed memory is used again by the process that freed it."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.unit

FAULTS = """
import resource, sys
from actors.allocator import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()
faults = []
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    array = bytearray(2**26)
    array[::4096] = bytes([1]) * 2**14
    del array
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(faults[-1])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
@pytest.mark.parametrize(("way", "least", "most"), [("leave", 10_000, 10**9), ("keep", 0, 1000)])
def test_a_large_array_finds_its_pages_again(way: str, least: int, most: int) -> None:
    """64 MiB are 16,384 pages: all of them fault each time, or none after the first."""
    done = subprocess.run([sys.executable, "-c", FAULTS, way], capture_output=True, text=True, check=True)
    assert least <= int(done.stdout) <= most
