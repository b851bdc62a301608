"""A small job and a model card, for the tests of searches; nothing is read from the disk."""

from __future__ import annotations

from typing import Any

import yaml

from tests.unit.config_sample import SMALL
from tutelage.config import JobConfig
from tutelage.models.describe import ModelCard

CARD = ModelCard(
    folder="base",
    architecture="BertModel",
    layers=6,
    vocabulary=100,
    positions=64,
    labels=[],
    hidden=96,
    weights=1000,
)
"""A student model of six layers."""

RATE = {"type": "float", "low": 1e-5, "high": 1e-3, "log": True}
SHARP = {"type": "choice", "values": [{"type": "uniform"}, {"type": "confidence", "sharpness": 2.0}]}


def tune_job(*, search: dict[str, Any] | None = None, **sections: Any) -> JobConfig:
    """The small job with other sections and a search."""
    return JobConfig.model_validate({**yaml.safe_load(SMALL), **sections, "search": search or {}})
