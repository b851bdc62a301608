"""The shape of a student: what is refused before any model is read."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tutelage.config.architecture import Architecture
from tutelage.config.models import StudentConfig

pytestmark = pytest.mark.unit

SHAPE = {"family": "albert", "depth": 2, "width": 64, "heads": 4}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"heads": 5}, "width 64 does not divide by heads 5; use heads 4 or width 65"),
        ({"embedding": 65}, "embedding is 65, above width"),
        ({"depth": 0}, "greater than 0"),
        ({"witdh": 3}, "unknown key 'witdh'; did you mean 'width'"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match="Architecture") as caught:
        Architecture.model_validate({**SHAPE, **changes})
    assert words in str(caught.value)


def test_layers_of_the_model_and_a_new_shape_exclude_each_other() -> None:
    with pytest.raises(ValidationError, match="architecture builds others"):
        StudentConfig.model_validate({"model": "m", "layers": [0], "architecture": SHAPE})
