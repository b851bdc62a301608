"""What came out, in the terminal: every model with its interval, what was kept, what was not measured."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from actors.evaluate import Judgement
from actors.tally import Scores
from tests.unit.report_sample import sample
from tutelage.cli.console import Console
from tutelage.cli.figures import _not_measured
from tutelage.cli.outcome import say_accuracy
from tutelage.report.claims import claims
from tutelage.report.figures import AccuracyRow, Report
from tutelage.report.html import render
from tutelage.report.summary import kept

pytestmark = pytest.mark.unit


def changed(**parts: Any) -> Report:
    return Report.model_validate(sample().model_dump() | parts)


def test_the_student_is_said_with_its_interval_and_how_much_it_kept(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [
        {"model": "t", "kind": "teacher", "by_slice": {"all": 0.75}, "examples": 1000},
        {"model": "student", "kind": "student", "runtime": "torch", "by_slice": {"all": 0.728}, "low": 0.7,
         "high": 0.755, "examples": 1000},
    ]  # fmt: skip
    report = changed(accuracy=rows, combiner=None)
    say_accuracy(Console(), report)
    out, err = capsys.readouterr()
    assert "student torch" in out + err
    assert "0.700 to 0.755" in out + err
    assert "Accuracy on 1000 test texts that no training saw" in out + err
    assert "The student keeps 97.1 % of the best single teacher's accuracy at" in out + err
    page = render(report)
    assert "70.0 to 75.5" in page
    assert "The student keeps 97.1" in page


def test_how_much_is_kept_names_both_teachers_and_the_size() -> None:
    """0.8475 of 0.792 and of 0.8175; 17.6 MB of int8 stand against three teachers of 90.9 MB."""
    report = sample()
    words = kept(report, claims(report)).replace("\u00a0", " ")
    assert words == (
        "The student keeps 107.0 % of the best single teacher's accuracy and 103.7 % of that of the uniform "
        "mean at 6.5 % of the teachers' size (17.6 MB of 273 MB)."
    )


def test_nothing_is_kept_of_what_was_not_measured() -> None:
    report = changed(accuracy=[AccuracyRow(model="student", kind="student").model_dump()])
    assert kept(report, claims(report)) == ""


@pytest.mark.parametrize(
    ("student", "teachers", "said"),
    [
        (Scores({}, None, 0), {}, ["no test row has a label, so no model's accuracy was measured"]),
        (Scores({"a": 0.5}, 0.5, 9), {"one", "two"}, []),
        (
            Scores({"a": 0.5}, 0.5, 9),
            {"one"},
            [
                "teacher two was not measured: its server gives the largest logits alone",
                "ensembles were not measured: they need all teachers",
            ],
        ),
    ],
)
def test_what_has_no_figure_is_said_with_the_reason(
    student: Scores, teachers: set[str], said: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    known = dict.fromkeys(teachers, Scores({"a": 0.5}, 0.5, 9))
    judged = Judgement(known, None, None, {}, None, 1, 0, student)
    found: Any = SimpleNamespace(
        judgement=judged, teachers=[SimpleNamespace(name="one"), SimpleNamespace(name="two")]
    )
    assert _not_measured(found) == said
    report = changed(not_measured=said)
    say_accuracy(Console(), report)
    out, err = capsys.readouterr()
    page = render(report)
    for sentence in said:
        assert sentence[1:] in out + err
        assert sentence[1:].replace("'", "&#39;") in page
