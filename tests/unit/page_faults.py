"""Whether freed memory is used again: page faults of an array that follows others of its size."""

from __future__ import annotations

import resource


def page_faults() -> int:
    """Of the third of three arrays of 64 MiB (16,384 pages), each freed before the next."""
    faults = 0
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        array = bytearray(2**26)
        array[::4096] = bytes([1]) * 2**14
        del array
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    return faults
