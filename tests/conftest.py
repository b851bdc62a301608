"""What a run of the tests says of itself, and what it does not inherit."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Take SIGINT: a shell ignores it for what it starts in the background, and tests stop commands by it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> str:
    """The processor: int8 kernels, and so answers, depend on it."""
    from tutelage.export.processor import this_processor

    return f"processor: {this_processor()}"
