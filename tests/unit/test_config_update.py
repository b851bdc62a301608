"""The update section: what cannot be meant is refused, and what an update does not decide."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tutelage.config.update import UpdateConfig

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("kind", ["ewc", "online-ewc", "si", "mas", "l2"])
def test_a_penalty_alone_is_refused_for_new_classes_unless_forced(kind: str) -> None:
    alone: dict[str, Any] = {"grow": True, "regulariser": {"type": kind}, "replay": None, "distil": None}
    with pytest.raises(ValidationError, match="forgets the old classes"):
        UpdateConfig.model_validate(alone)
    with pytest.raises(ValidationError, match="forgets the old classes"):
        UpdateConfig.model_validate({**alone, "distil": {"weight": 0}})
    assert UpdateConfig.model_validate({**alone, "force": True}).force
    for helps in ({"replay": {}}, {"distil": {}}):
        assert UpdateConfig.model_validate({**alone, **helps}).grow


def test_the_version_before_is_no_name_for_another_teacher() -> None:
    with pytest.raises(ValidationError, match="'champion' is the version before"):
        UpdateConfig.model_validate({"teachers": [{"name": "champion", "model": "x"}]})


def test_an_update_makes_no_teachers() -> None:
    teacher = {"name": "new", "model": "x", "finetune": {"data": {"music": {}}}}
    with pytest.raises(ValidationError, match="an update trains no teachers"):
        UpdateConfig.model_validate({"teachers": [teacher]})


def test_a_nearest_mean_needs_texts_of_every_class() -> None:
    with pytest.raises(ValidationError, match="needs replay"):
        UpdateConfig.model_validate({"head": "nearest-mean", "replay": None})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("regulariser", {"type": "ewc", "strength": -1}),
        ("regulariser", {"type": "ewc", "strength": "soft"}),
        ("regulariser", {"type": "online-ewc", "gamma": 1.5}),
        ("regulariser", {"type": "ewc", "relax": 1.0}),
        ("regulariser", {"type": "ewcc"}),
        ("replay", {"kilobytes": 0}),
        ("replay", {"share": 1.0}),
        ("gate", {"max_forgetting": 2}),
    ],
)
def test_values_out_of_their_range_are_refused(key: str, value: Any) -> None:
    with pytest.raises(ValidationError):
        UpdateConfig.model_validate({key: value})


def test_a_regulariser_without_a_type_is_online_ewc() -> None:
    found = UpdateConfig.model_validate({"regulariser": {"gamma": 0.5}}).regulariser
    assert found is not None
    assert (found.type, getattr(found, "gamma", None)) == ("online-ewc", 0.5)


def test_whole_weights_are_not_held_where_there_are_none() -> None:
    for changes in ({"train": {"zero_stage": 2}}, {"method": {"type": "lora"}}):
        with pytest.raises(ValidationError, match="kfac holds whole weights"):
            UpdateConfig.model_validate({"regulariser": {"type": "kfac"}, **changes})
    with pytest.raises(ValidationError, match="which lora does not move"):
        UpdateConfig.model_validate({"regulariser": {"type": "si"}, "method": {"type": "lora"}})
