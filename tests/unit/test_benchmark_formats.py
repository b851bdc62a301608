"""The table of formats: what is read, or is refused with a key that reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.formats import ROWS, Case, columns, encodings, others, shapes, tried

pytestmark = pytest.mark.unit

EVERY_FIFTH = list(encodings())[::5]


@pytest.mark.parametrize(
    "case", [*EVERY_FIFTH, *shapes(), *columns()], ids=lambda case: f"{case.what} {case.name}"
)
def test_no_row_is_lost_and_advice_reads_the_file(tmp_path: Path, case: Case) -> None:
    outcome = tried(tmp_path, case)
    assert outcome.whole, outcome
    assert outcome.init in (f"{ROWS} of {ROWS}", "")


@pytest.mark.parametrize("case", list(others()), ids=lambda case: case.what)
def test_what_is_no_file_of_rows_is_named(tmp_path: Path, case: Case) -> None:
    outcome = tried(tmp_path, case)
    assert outcome.plain.startswith("refused: it")
    assert outcome.key
