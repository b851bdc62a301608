"""What a run of the tests says of itself."""

from __future__ import annotations


def pytest_report_header() -> str:
    """The processor: int8 kernels, and so answers, depend on it."""
    from tutelage.export.processor import this_processor

    return f"processor: {this_processor()}"
