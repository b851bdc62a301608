"""Schedules: their values at each progress, and what a job may say of them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from tests.unit import config_sample as sample
from tests.unit.test_config_errors import problems
from tutelage.config.job import JobConfig
from tutelage.config.load import dump_yaml, job_digest, load_job
from tutelage.config.objectives import KL
from tutelage.config.reference import reference
from tutelage.config.schedule import Number, Schedule, is_constant, peak, say, stretch_of_zeros, value_at
from tutelage.config.schema import json_schema

pytestmark = pytest.mark.unit

COSINE = "objectives.kl.temperature={type: cosine, start: 4, end: 1}"


def schedule(**keys: Any) -> Schedule:
    built: Schedule = TypeAdapter(Schedule).validate_python(keys)
    return built


@pytest.fixture
def job_path(tmp_path: Path) -> Path:
    return sample.write(tmp_path)


def load(path: Path, *overrides: str) -> JobConfig:
    return load_job(path, overrides, {}).job


# Arithmetic


@pytest.mark.parametrize(
    ("type_", "quarter", "middle"),
    [("linear", 3.25, 2.5), ("cosine", 1 + 3 * (2 + 2**0.5) / 4, 2.5), ("exponential", 4**0.75, 2.0)],
)
def test_a_ramp_goes_from_its_start_to_its_end(type_: str, quarter: float, middle: float) -> None:
    number = schedule(type=type_, start=4, end=1)
    found = [value_at(number, progress) for progress in (0, 0.25, 0.5, 1)]
    assert found == [4.0, pytest.approx(quarter), pytest.approx(middle), 1.0]


@pytest.mark.parametrize("type_", ["linear", "cosine", "exponential"])
def test_a_ramp_is_level_before_begin_and_from_until_on(type_: str) -> None:
    number = schedule(type=type_, start=1, end=9, begin=0.2, until=0.6)
    assert [value_at(number, progress) for progress in (0, 0.2, 0.6, 1)] == [1, 1, 9, 9]
    middle = 3 if type_ == "exponential" else 5
    assert value_at(number, 0.4) == pytest.approx(middle)


def test_a_step_takes_each_value_from_its_progress_on() -> None:
    number = schedule(type="step", values=[1, 0.5, 0], at=[0.25, 0.75])
    progress = [0, 0.2499, 0.25, 0.7499, 0.75, 1]
    assert [value_at(number, one) for one in progress] == [1, 1, 0.5, 0.5, 0, 0]


def test_a_plain_number_is_itself() -> None:
    assert value_at(0.1, 0.7) == 0.1
    assert is_constant(0.1)
    assert peak(0.1) == 0.1


ramps = st.builds(
    schedule,
    type=st.sampled_from(["linear", "cosine", "exponential"]),
    start=st.floats(1e-300, 1e300),
    end=st.floats(1e-300, 1e300),
    begin=st.floats(0, 0.5),
    until=st.floats(0.5, 1, exclude_min=True),
)


@given(ramps, st.lists(st.floats(0, 1), min_size=2))
def test_a_ramp_stays_between_its_ends_and_never_turns(number: Any, progress: list[float]) -> None:
    values = [value_at(number, one) for one in sorted(progress)]
    assert all(min(number.start, number.end) <= value <= max(number.start, number.end) for value in values)
    slack = 1e-12 * max(number.start, number.end)
    sign = 1 if number.end >= number.start else -1
    assert all(sign * (second - first) >= -slack for first, second in pairwise(values))


@given(st.floats(1e-300, 100), st.sampled_from(["linear", "cosine", "exponential"]), st.floats(0, 1))
def test_a_ramp_between_equal_ends_is_that_number_to_the_last_bit(
    value: float, type_: str, progress: float
) -> None:
    number = schedule(type=type_, start=value, end=value)
    assert is_constant(number)
    assert value_at(number, progress) == value


def test_the_peak_is_the_largest_value_wherever_it_is_taken() -> None:
    assert peak(schedule(type="step", values=[0, 3, 1], at=[0.1, 0.2])) == 3
    assert peak(schedule(type="linear", start=2, end=0)) == 2
    assert peak(schedule(type="linear", start=0, end=0)) == 0
    assert not is_constant(schedule(type="step", values=[1, 2, 1], at=[0.1, 0.2]))


@pytest.mark.parametrize(
    ("weights", "found"),
    [
        ([0.0, 1.0], None),
        ([0.0], (0.0, 1.0)),
        ([schedule(type="linear", start=0, end=1)], None),
        ([schedule(type="linear", start=0, end=1, begin=0.25)], (0.0, 0.25)),
        ([schedule(type="cosine", start=1, end=0, until=0.5)], (0.5, 1.0)),
        (
            [
                schedule(type="step", values=[1, 0], at=[0.5]),
                schedule(type="linear", start=0, end=1, begin=0.75),
            ],
            (0.5, 0.75),
        ),
        (
            [schedule(type="step", values=[1, 0], at=[0.5]), schedule(type="step", values=[0, 1], at=[0.5])],
            None,
        ),
    ],
)
def test_a_stretch_without_any_weight_is_found(
    weights: list[Number], found: tuple[float, float] | None
) -> None:
    assert stretch_of_zeros(weights) == found


def test_a_number_is_said_in_a_few_words() -> None:
    assert say(2.0) == "2"
    assert say(schedule(type="cosine", start=4, end=1)) == "cosine from 4 to 1"
    assert say(schedule(type="step", values=[1, 0.5], at=[0.5])) == "step through 1, 0.5"


# In a job


@pytest.mark.parametrize(
    ("overrides", "start"),
    [
        ([COSINE], 4.0),
        ([COSINE, "objectives.kl.temperature.start=3"], 3.0),
        ([COSINE, "objectives.kl.temperature.type=exponential"], 4.0),
    ],
)
def test_an_override_sets_a_schedule_and_what_is_in_it(
    job_path: Path, overrides: list[str], start: float
) -> None:
    term = load(job_path, *overrides).objectives[0]
    assert isinstance(term, KL)
    assert value_at(term.temperature, 0.0) == start
    assert value_at(term.temperature, 1.0) == 1.0


def test_a_schedule_in_the_file_can_be_changed_by_one_key(tmp_path: Path) -> None:
    text = sample.SMALL.replace("temperature: 2", "temperature: {type: linear, start: 4, end: 1}")
    path = sample.write(tmp_path, text)
    loaded = load_job(path, ["objectives.kl.temperature.end=2"], {})
    assert isinstance(loaded.job.objectives[0], KL)
    assert value_at(loaded.job.objectives[0].temperature, 1.0) == 2.0
    assert loaded.provenance["objectives.kl.temperature.start"] == f"{path}:18"
    assert loaded.provenance["objectives.kl.temperature.end"] == "command line"
    assert loaded.provenance["objectives.kl.temperature.until"] == "default"


def test_a_job_with_a_schedule_survives_its_dump(job_path: Path) -> None:
    job = load(job_path, COSINE)
    dumped = sample.write(job_path.parent, dump_yaml(job), "dumped.yaml")
    assert load(dumped) == job
    assert job_digest(load(dumped)) == job_digest(job) != job_digest(load(job_path))


NUMBER = "wants a number above 0 and at most 100"
KINDS = "linear, cosine, exponential or step"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("hot", f"temperature: hot is not allowed; {NUMBER}, or a mapping with type {KINDS}"),
        ("null", f"temperature: null is not allowed; {NUMBER}, or a mapping with type {KINDS}"),
        ("0", f"temperature: 0 is not allowed; {NUMBER}, or a mapping with type {KINDS}"),
        ("{type: cosin, start: 4, end: 1}", f"temperature.type: cosin is not allowed; wants {KINDS}"),
        ("{start: 4, end: 1}", f"temperature.type: missing; wants {KINDS}"),
        ("{type: linear, start: 4}", "temperature.end: missing; wants a number"),
        ("{type: linear, start: 4, edn: 1}", "temperature: unknown key 'edn'; did you mean 'end'?"),
        (
            "{type: linear, start: 4, end: 1, at: [0.5]}",
            "temperature: type linear has no 'at'; it belongs to type step",
        ),
        ("{type: linear, start: 200, end: 1}", f"temperature: start is 200; {NUMBER}"),
        ("{type: cosine, start: 4, end: 0}", f"temperature: end is 0; {NUMBER}"),
        ("{type: step, values: [1, 101], at: [0.5]}", f"temperature: values.1 is 101; {NUMBER}"),
        ("{type: exponential, start: -1, end: 1}", "temperature.start: -1 is not allowed; wants a number ab"),
        ("{type: linear, start: .inf, end: 1}", "temperature.start: .inf is not allowed; wants a number"),
        (
            "{type: linear, start: 4, end: 1, begin: 0.5, until: 0.5}",
            "temperature: begin is 0.5 and until is 0.5; wants begin below until",
        ),
        (
            "{type: step, values: [4, 1], at: [0.2, 0.4]}",
            "temperature: at has 2 entries for 2 values; wants one fewer than values",
        ),
        ("{type: step, values: [4, 2, 1], at: [0.4, 0.2]}", "temperature: at is [0.4, 0.2]; wants rising"),
        (
            "{type: step, values: [4, 1], at: [1]}",
            "temperature.at.0: 1 is not allowed; wants a number above 0 and",
        ),
    ],
)
def test_a_wrong_schedule_is_one_problem_with_key_value_and_what_is_allowed(
    job_path: Path, value: str, says: str
) -> None:
    found = problems(job_path, f"objectives.kl.temperature={value}")
    assert len(found) == 1
    assert f"objectives.kl.{says}" in found[0]
    assert found[0].endswith("(command line)")


@pytest.mark.parametrize(
    ("override", "says"),
    [
        (
            "objectives.cross-entropy.weight={type: linear, start: 1, end: -1}",
            "objectives.cross-entropy.weight: end is -1; wants a number at least 0",
        ),
        (
            "objectives.kl.weight={type: linear, start: 0, end: 0}",
            "objectives: no 'kl' or 'jsd' with a weight above 0",
        ),
        (
            "objectives=[{type: kl, weight: {type: step, values: [0, 1], at: [0.5]}}]",
            "objectives: from progress 0 to 0.5 the weights sum to 0, so nothing would be learned there",
        ),
    ],
)
def test_weights_that_teach_nothing_are_refused(job_path: Path, override: str, says: str) -> None:
    (found,) = problems(job_path, override)
    assert says in found


def test_a_weight_that_only_begins_at_0_hears_its_teachers(job_path: Path) -> None:
    assert load(job_path, "objectives.kl.weight={type: linear, start: 0, end: 1}")


SERVED = """\
name: served
task: {type: causal-lm}
data: {sources: {a: {path: a.csv, columns: {text: text}}}}
teachers:
  - name: far
    model: some/model
    remote: {type: openai, url: "http://localhost:1"}
student: {model: some/small}
objectives: [{type: kl, temperature: TEMPERATURE}]
"""


def test_an_openai_server_serves_no_temperature_that_leaves_1(tmp_path: Path) -> None:
    path = sample.write(tmp_path, SERVED.replace("TEMPERATURE", "{type: linear, start: 1, end: 2}"))
    (found,) = problems(path)
    assert "objectives.kl.temperature is linear from 1 to 2: teacher 'far' is an openai server" in found
    assert load(path, "objectives.kl.temperature.end=1")
    assert load(path, "objectives.kl.temperature=1")


def test_the_schema_knows_numbers_and_schedules() -> None:
    check = jsonschema.Draft202012Validator({"$ref": "#/$defs/KL", "$defs": json_schema()["$defs"]})
    for temperature, ok in (
        (2, True),
        (0, False),
        ({"type": "linear", "start": 4, "end": 1}, True),
        ({"type": "linear", "start": 4}, False),
        ({"type": "steep", "start": 4, "end": 1}, False),
    ):
        assert check.is_valid({"type": "kl", "temperature": temperature}) is ok, temperature


def test_the_reference_explains_each_type_once_with_all_its_places() -> None:
    page = reference()
    assert page.count("`objectives[].weight`, type `cosine`") == 1
    places = "`train.lr`, `update.train.lr`, `teachers[].finetune.train.lr`"
    assert page.count(f"Also: `objectives[].temperature`, {places}, ") == 4
