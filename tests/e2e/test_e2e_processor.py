"""On a processor without VNNI: int8 answers are those of exact integers there too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("level", ["avx2", "avx512"])
def test_int8_is_exact_where_signed_products_saturate(level: str, tmp_path: Path) -> None:
    """Both kinds of processor, on one that can hide what it has; elsewhere the machine's own is tested."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--basetemp", str(tmp_path / "t")]
    found = subprocess.run(
        ["sh", "scripts/as_processor.sh", level, *command, "tests/unit/test_export_byte_weights.py"],
        cwd=ROOT,
        env={**os.environ, "AS_PROCESSOR_LIBRARY": str(tmp_path / "as_processor.so")},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    if found.returncode == 77:
        pytest.skip(found.stderr.strip())
    assert found.returncode == 0, found.stdout[-2000:]
    assert "signed int8 products saturate" in found.stdout
