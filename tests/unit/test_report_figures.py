"""The figures of a report: JSON in and out, numbers that are not finite, and what the rows prove."""

from __future__ import annotations

import json
import math

import pytest
from pydantic import ValidationError

from tests.unit.report_sample import DOMAINS, sample
from tutelage.report.claims import claims, size_kind
from tutelage.report.figures import AccuracyRow, Answer, CombinerFigure, LatencyRow, Point, Report, SizeRow
from tutelage.report.write import to_json

pytestmark = pytest.mark.unit


def bare(**parts: object) -> Report:
    return Report.model_validate(
        {"title": "t", "command": "c", "created": "2026-01-01", "seconds": 1.0, **parts}
    )


def row(model: str, kind: str, *values: float | None, runtime: str | None = None) -> dict[str, object]:
    by_slice = dict(zip(DOMAINS, values, strict=False))
    return {"model": model, "kind": kind, "runtime": runtime, "by_slice": by_slice, "examples": 2000}


def test_json_round_trip_is_the_same_report():
    """A report written as JSON and read again is equal, and writes the same bytes."""
    text = to_json(sample())
    again = Report.model_validate_json(text)
    assert again == sample()
    assert to_json(again) == text


def test_only_four_keys_are_required():
    """All parts but title, command, created and seconds may be absent."""
    required = {name for name, field in Report.model_fields.items() if field.is_required()}
    assert required == {"title", "command", "created", "seconds"}


def test_a_report_is_frozen_and_closed():
    """A figure cannot be changed after the fact, nor a misspelt one added."""
    with pytest.raises(ValidationError, match="frozen"):
        sample().seconds = 1.0
    with pytest.raises(ValidationError, match="acuracy"):
        bare(acuracy=[])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_measured_number_that_is_not_finite_becomes_null(value: float):
    """A diverged loss or a missing latency is null in the JSON, never NaN."""
    assert Point(step=1, loss=value, parts={"kl": value}).loss is None
    report = bare(
        curves=[
            {"name": "s", "kind": "student", "points": [{"step": 1, "loss": value, "parts": {"kl": value}}]}
        ],
        latency=[{"name": "s", "p50_ms": value}],
        accuracy=[row("a", "teacher", 0.5, value)],
    )
    data = json.loads(to_json(report), parse_constant=lambda name: pytest.fail(f"{name} in the JSON"))
    assert data["curves"][0]["points"][0] == {
        "step": 1, "loss": None, "parts": {"kl": None}, "lr": None, "accuracy": None,
    }  # fmt: skip
    assert data["latency"][0]["p50_ms"] is None
    assert data["accuracy"][0]["mean"] == 0.5


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_the_total_time_must_be_a_number(value: float):
    """Seconds that are not finite or negative are refused."""
    with pytest.raises(ValidationError, match="seconds"):
        bare(seconds=value)


def test_the_mean_is_computed_where_it_is_not_given():
    """Each domain counts the same; a missing domain does not count."""
    assert AccuracyRow(model="m", kind="teacher", by_slice={"a": 0.8, "b": 0.6}).mean == pytest.approx(0.7)
    assert AccuracyRow(model="m", kind="teacher", by_slice={"a": 0.8, "b": None}).mean == 0.8
    assert AccuracyRow(model="m", kind="teacher").mean is None


def test_a_mean_outside_its_domains_is_refused():
    """A mean that belongs to other rows cannot be reported."""
    with pytest.raises(ValidationError, match=r"0\.9 of 'm' lies outside its domains 0\.6\.\.0\.8"):
        AccuracyRow(model="m", kind="teacher", by_slice={"a": 0.8, "b": 0.6}, mean=0.9)


def test_unprintable_characters_of_a_text_are_replaced():
    """Zero bytes and lone surrogates of user texts cannot break the files."""
    assert Answer(text="a\x00b\ud800c\nd", label="x").text == "a\ufffdb\ufffdc\nd"


def test_claims_of_the_sample():
    """The student is compared with the best teacher by mean and with the uniform ensemble."""
    found = claims(sample())
    assert found.student is not None
    assert (found.student.runtime, found.student.mean) == ("torch", pytest.approx(0.8475))
    assert found.best_teacher is not None
    assert found.best_teacher.model == "tweets"
    assert found.student_over_best_teacher == pytest.approx(0.8475 - 0.792)
    assert found.student_over_uniform == pytest.approx(0.8475 - 0.8175)
    assert (found.beats_best_teacher, found.beats_uniform) == (True, True)
    assert found.half_width == pytest.approx(1.96 * math.sqrt(0.8475 * 0.1525 / 2000))
    assert found.size_ratio == pytest.approx(3 * 90_868_376 / 17_612_304)


def test_gaps_only_where_the_uniform_mean_loses():
    """Of four domains two have a specialist above the uniform mean, with the share that came back."""
    gaps = {gap.slice: gap for gap in claims(sample()).gaps}
    assert list(gaps) == ["movies", "tweets"]
    movies = gaps["movies"]
    assert (movies.specialist, movies.gap) == ("movies", pytest.approx(0.03))
    assert movies.combiner_won_back == pytest.approx((0.794 - 0.776) / 0.03)
    assert movies.student_won_back == pytest.approx((0.784 - 0.776) / 0.03)
    assert gaps["tweets"].combiner_won_back == pytest.approx(0.108 / 0.102)


def test_a_combiner_that_loses_more_has_a_negative_share():
    """Won back is below zero where the combiner is worse than the uniform mean."""
    rows = [row("a", "teacher", 0.8), row("u", "ensemble", 0.7), row("c", "combiner", 0.65)]
    (gap,) = claims(bare(accuracy=rows)).gaps
    assert gap.combiner_won_back == pytest.approx(-0.5)
    assert gap.student_won_back is None


def test_a_tie_beats_nobody():
    """Equal means are no win, although 0.1 + 0.2 is not 0.3 in floats."""
    rows = [
        row("a", "teacher", 0.1 + 0.2),
        row("u", "ensemble", 0.3),
        row("s", "student", 0.3, runtime="torch"),
    ]
    found = claims(bare(accuracy=rows))
    assert (found.beats_best_teacher, found.beats_uniform) == (False, False)


def test_nothing_is_claimed_without_rows():
    """No rows, no claims: every comparison is None."""
    found = claims(bare())
    assert found.beats_best_teacher is None
    assert found.beats_uniform is None
    assert found.gaps == []


def test_the_torch_student_is_the_student():
    """Whatever the order of the rows, the claim is about the student as it was trained."""
    rows = [row("s", "student", 0.6, runtime="int8"), row("s", "student", 0.7, runtime="torch")]
    found = claims(bare(accuracy=rows))
    assert found.student is not None
    assert found.student.mean == 0.7


def test_the_chosen_combiner_is_the_one_named():
    """Of several combiner rows the claim is about the one the job used."""
    rows = [row("u", "ensemble", 0.7), row("weighted", "combiner", 0.9), row("confidence", "combiner", 0.8)]
    found = claims(bare(accuracy=rows, combiner=CombinerFigure(name="confidence")))
    assert found.combiner_over_uniform == pytest.approx(0.1)


def test_sizes_without_a_kind_are_told_by_name():
    """A teacher's name, a name that starts with student, and anything else."""
    report = bare(accuracy=[row("movies", "teacher", 0.5)])
    kinds = [size_kind(SizeRow(name=name, bytes=1), report) for name in ("movies", "student int8", "other")]
    assert kinds == ["teacher", "student", None]
    assert size_kind(SizeRow(name="movies", bytes=1, kind="student"), report) == "student"


def test_bytes_are_not_negative():
    """A size below zero is refused."""
    with pytest.raises(ValidationError, match="bytes"):
        SizeRow(name="x", bytes=-1)


def test_latency_defaults_to_one_text():
    """A latency row without a batch is about one text."""
    assert LatencyRow(name="x").batch == 1
