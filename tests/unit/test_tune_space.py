"""Spaces: keys of a job and their values, points of them, and the jobs that points are."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.unit.tune_samples import CARD, RATE, SHARP, tune_job
from tune_spaces.ready_made import SPACES, space_of
from tune_spaces.search.asking import random_point
from tune_spaces.space import Space, check_space, job_at, own_point
from tutelage.config.load import job_digest
from tutelage.errors import ConfigError

pytestmark = pytest.mark.unit


def space(**keys: Any) -> Space:
    job = tune_job(search={"space": {key.replace("__", "."): value for key, value in keys.items()}})
    return space_of(job, CARD)


@pytest.mark.parametrize("name", list(SPACES))
def test_every_point_of_a_ready_made_space_is_a_job_or_refused(name: str) -> None:
    """And the search can begin with the job as it is, wherever the space holds it."""
    job = tune_job(search={"spaces": [name]})
    found = space_of(job, CARD)
    draw = random_point(found, 0)
    check_space(job, found, draw)
    stood = 0
    for _ in range(50):
        try:
            job_at(job, found, draw())
            stood += 1
        except ConfigError:
            continue
    assert stood > 10
    own = own_point(job, found)
    if name not in ("architectures", "teacher-weights", "layers"):
        assert own is not None
        assert job_digest(job_at(job, found, own)) == job_digest(job)


def test_the_values_of_a_point_stand_in_its_job() -> None:
    found = space(train__lr=RATE, combiner=SHARP)
    job = job_at(tune_job(), found, {"train.lr": 2e-4, "combiner": {"type": "uniform"}})
    assert (job.train.lr, job.combiner.type) == (2e-4, "uniform")
    # The values of a choice are not changed by later keys of the same point.
    assert found.keys["combiner"].values[1] == {"type": "confidence", "sharpness": 2.0}  # type: ignore[union-attr]


def test_labels_are_plain_and_lead_back_to_the_point() -> None:
    found = space(train__lr=RATE, combiner=SHARP, train__batch_size={"type": "int", "low": 2, "high": 9})
    point = {"train.lr": 2e-4, "combiner": {"type": "confidence", "sharpness": 2.0}, "train.batch_size": 4}
    labels = found.labels(point)
    assert labels["combiner"] == '{"sharpness": 2.0, "type": "confidence"}'
    assert found.point(labels) == point
    assert found.holds(labels)
    assert not found.holds({**labels, "train.lr": 2e-3})
    assert not found.holds({**labels, "combiner": "uniform"})
    assert not found.holds({"train.lr": 2e-4})


def test_a_grid_is_every_combination_with_the_ends_of_ranges() -> None:
    points = list(space(train__lr=RATE, combiner=SHARP).grid(3))
    assert len(points) == 6
    rates = sorted({point["train.lr"] for point in points})
    assert rates == pytest.approx([1e-5, 1e-4, 1e-3])
    assert (rates[0], rates[-1]) == (1e-5, 1e-3)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("train.lrr", "unknown key 'lrr'; did you mean 'lr'?"),
        ("objectives.kl.temprature", "did you mean 'temperature'?"),
        ("objectives.jsd.weight", "jsd"),
        ("student.layer", "did you mean 'layers'?"),
    ],
)
def test_a_key_that_the_job_does_not_have_is_refused_with_a_hint(key: str, words: str) -> None:
    job = tune_job(search={"space": {key: {"type": "float", "low": 1e-4, "high": 1e-2}}})
    found = space_of(job, CARD)
    with pytest.raises(ConfigError, match="cannot stand there") as caught:
        check_space(job, found, random_point(found, 0))
    assert key in caught.value.problem
    assert words in caught.value.problem


def test_a_key_may_need_the_company_of_another() -> None:
    """`combiner.sharpness` does not exist beside a uniform combiner."""
    kinds = {"type": "choice", "values": ["uniform", "confidence"]}
    sharp = {"type": "float", "low": 1.0, "high": 9.0}
    job = tune_job(
        search={"space": {"combiner.type": kinds, "combiner.sharpness": sharp}}, combiner={"type": "uniform"}
    )
    found = space_of(job, CARD)
    check_space(job, found, random_point(found, 0))
    assert job_at(job, found, {"combiner.type": "confidence", "combiner.sharpness": 3.0}).combiner.type == (
        "confidence"
    )
    with pytest.raises(ConfigError, match="sharpness"):
        job_at(job, found, {"combiner.type": "uniform", "combiner.sharpness": 3.0})


def test_a_value_outside_the_bounds_of_its_key_is_refused_before_any_trial() -> None:
    job = tune_job(search={"space": {"train.dropout": {"type": "float", "low": 0.0, "high": 1.5}}})
    found = space_of(job, CARD)
    with pytest.raises(ConfigError, match=r"train.dropout.* 1.5 cannot stand there"):
        check_space(job, found, random_point(found, 0))


def test_an_unknown_space_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"no space 'schedule'; did you mean 'schedules'"):
        space_of(tune_job(search={"spaces": ["schedule"]}), CARD)


def test_a_space_without_keys_is_refused() -> None:
    """One teacher leaves nothing to combine."""
    lone = [{"name": "one", "model": "some/model"}]
    job = tune_job(search={"spaces": ["combiners"]}, teachers=lone, combiner={"type": "uniform"})
    with pytest.raises(ConfigError, match="no key that this job could change"):
        space_of(job, CARD)


def test_a_schedule_that_never_moves_is_its_number() -> None:
    job = tune_job(search={"spaces": ["schedules"]})
    found = space_of(job, CARD)
    level = {f"objectives.kl.temperature.{end}": 3.0 for end in ("start", "end")}
    shaped = job_at(job, found, {**level, "objectives.kl.temperature.type": "cosine"})
    assert shaped.objectives[0].temperature == 3.0  # type: ignore[union-attr]


def test_own_keys_go_before_those_of_a_name() -> None:
    job = tune_job(search={"spaces": ["optimiser"], "space": {"train.lr": RATE}})
    assert space_of(job, CARD).keys["train.lr"].high == 1e-3  # type: ignore[union-attr]


def test_random_points_lie_in_the_space() -> None:
    found = space_of(tune_job(search={"spaces": ["optimiser", "schedules", "layers"]}), CARD)
    draw = random_point(found, random.Random(1).randrange(100))
    assert all(found.holds(found.labels(draw())) for _ in range(100))
