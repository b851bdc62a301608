"""The stream on the page: payloads, waiting, lost teachers, self-tests, and the words of other metrics."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.unit.report_sample import sample
from tutelage.report.claims import claims
from tutelage.report.figures import Report, SelfTestFigure, TeacherFigure
from tutelage.report.html import render
from tutelage.report.stream_tables import absences, reasons, sent_rows, went_rows
from tutelage.report.summary import outcome

pytestmark = pytest.mark.unit


def changed(**teacher: Any) -> Report:
    """The sample with its first teacher changed."""
    first, *others = sample().teachers
    return sample().model_copy(update={"teachers": [first.model_copy(update=teacher), *others]})


def words(report: Report) -> str:
    """What a reader reads."""
    page = re.sub(r"<style>.*?</style>", "", render(report), flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", page).replace("&nbsp;", " ").split())


def test_a_teacher_has_payload_bytes_and_share_from_the_store() -> None:
    row = sent_rows(sample())[0]
    assert (row.name, row.payload) == ("movies", "dense fp32")
    assert row.texts[:3] == ("8.0", "4,800", "66.7")


def test_a_fleet_has_times_waiting_and_faults() -> None:
    assert went_rows(sample())[1].texts[2:] == ("92", "7.2", "5.1", "0", "2", "0")
    assert went_rows(changed(max_replicas=3))[0].texts[0] == "1\u202fof\u202f3"
    assert went_rows(changed(max_replicas=1))[0].texts[0] == "1"


def test_a_teacher_that_was_left_out_is_said_first_and_has_a_column() -> None:
    report = changed(lost_batches=12, notes=["teacher 'movies' is left out from here on: it was gone"])
    (sentence,) = absences(report)
    assert sentence.startswith("The training went on without movies for 12 batches;")
    assert "it was gone" in sentence
    assert [row.texts[-1] for row in went_rows(report)] == ["12", "0", "0"]
    text = words(report)
    assert text.index("went on without movies") < text.index("Streamed against local")
    assert "batches without" in text


def test_one_lost_batch_is_one_batch_and_none_is_no_word() -> None:
    assert "for 1 batch;" in absences(changed(lost_batches=1))[0]
    assert absences(sample()) == []
    assert "batches without" not in words(sample())


def test_a_reason_that_teachers_share_is_given_once() -> None:
    report = changed(reason="a wide vocabulary")
    assert [names for names, _ in reasons(report)] == ["movies", "amazon, tweets"]


def test_a_teacher_of_an_old_report_has_dashes() -> None:
    report = sample().model_copy(update={"teachers": [TeacherFigure(name="old", calls=4)]})
    assert sent_rows(report)[0].payload == "\u2013"
    assert sent_rows(report)[0].texts[0] == "\u2013"
    assert went_rows(report)[0].texts[3:5] == ("\u2013", "\u2013")


def test_a_self_test_shows_divergence_gradient_and_whether_it_passed() -> None:
    tests = [
        SelfTestFigure(
            payload="dense-fp32", positions=64, kl=2.5e-8, gradient=1e-9, allowed=1e-6, passed=True
        ),
        SelfTestFigure(payload="sampled-12", positions=64, kl=0.5, allowed=0.01, passed=False),
    ]
    text = words(sample().model_copy(update={"self_tests": tests}))
    assert "dense-fp32 64 2.5 × 10⁻⁸ 1 × 10⁻⁹ 1 × 10⁻⁶ ✓ passed" in text
    assert "sampled-12 64 0.50 – 0.010 ✗ failed" in text
    assert "Self-test" not in words(sample())


def test_the_words_are_those_of_the_metric() -> None:
    report = sample().model_copy(update={"metric": "f1", "unit": "word"})
    text = words(report)
    assert "F1 by domain" in text
    assert "bytes a word" in text
    assert "Mean F1 of the student" in text
    assert "its F1, %" in text
    assert "Accuracy" not in text
    assert "reaches 84.8\u00a0% F1 on the test texts: 5.6\u00a0points above" in outcome(
        report, claims(report)
    )
    assert claims(report).half_width is None


def test_accuracy_of_words_is_no_share_of_texts() -> None:
    report = sample().model_copy(update={"unit": "word"})
    assert "The share of words of the test texts that each model gets right." in words(report)
    assert "84.8\u00a0% accuracy on the test texts" in outcome(report, claims(report))
    assert claims(report).half_width is None
    assert claims(sample()).half_width is not None


def test_a_payload_from_elsewhere_cannot_write_markup() -> None:
    report = changed(payload="<b>x</b>", reason="<script>alert(1)</script>", lost_batches=1, notes=["<i>"])
    page = render(report)
    assert "<b>x" not in page
    assert "<script" not in page
    assert "<i>" not in page


def test_the_figures_survive_json() -> None:
    report = changed(lost_batches=3, notes=["gone"], wait_share=float("nan"))
    again = Report.model_validate_json(report.model_dump_json())
    assert again.teachers[0].lost_batches == 3
    assert again.teachers[0].wait_share is None
