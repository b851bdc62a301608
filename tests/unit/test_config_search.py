"""The search section: what it refuses, and in which words."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.unit.config_sample import SMALL
from tutelage.config.explain import validate_job
from tutelage.config.load import job_digest
from tutelage.config.search import ASHA, NoScheduler, SearchConfig
from tutelage.errors import ConfigError

pytestmark = pytest.mark.unit

RANGE = {"type": "float", "low": 1e-4, "high": 1e-2, "log": True}


def job(**search: Any) -> Any:
    return validate_job({**yaml.safe_load(SMALL), "search": search}, {}, "job.yaml")


@pytest.mark.parametrize(
    ("search", "words"),
    [
        ({"space": {"train.lr": {**RANGE, "high": 1e-4}}}, "low 0.0001 is not below high 0.0001"),
        ({"space": {"train.lr": {**RANGE, "low": 0.0}}}, "a logarithmic range begins above 0"),
        ({"space": {"train.lr": {"type": "int", "low": 3, "high": 2}}}, "low 3 is not below high 2"),
        ({"space": {"train.lr": {"type": "choice", "values": [1]}}}, "nothing to search"),
        ({"space": {"train.lr": {"type": "choice", "values": [1, 2, 1]}}}, "values holds 1 twice"),
        ({"space": {"train.lr": {"type": "normal"}}}, "normal is not allowed; wants float, int or choice"),
        ({"trails": 3}, "unknown key 'trails'; did you mean 'trials'"),
        ({"goals": ["latency_ms"]}, "the first decides"),
        ({"goals": ["accuracy", "accuracy"]}, "one stands twice"),
        ({"goals": ["accuracy", "size_mb"], "scheduler": {"type": "asha"}}, "compares trials by one goal"),
        ({"scheduler": {"type": "pbt"}, "searcher": {"type": "grid"}}, "searcher grid cannot"),
        ({"scheduler": {"type": "pbt"}, "reports": 1}, "needs reports of 2 or more"),
        (
            {"scheduler": {"type": "pb2"}, "space": {"train.lr": {"type": "choice", "values": [1, 2]}}},
            "needs ranges",
        ),
    ],
)
def test_what_cannot_be_searched_is_refused_by_its_key(search: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match="search") as caught:
        job(**search)
    assert words in caught.value.problem


def test_a_search_is_no_part_of_what_is_distilled() -> None:
    """A search chooses among jobs: changing it changes no run of the job itself."""
    assert job_digest(job(trials=3)) == job_digest(job(space={"train.lr": RANGE}))


def test_trials_are_stopped_by_halving_unless_there_are_several_goals() -> None:
    assert SearchConfig().stops_by == ASHA()
    assert SearchConfig(goals=["accuracy", "latency_ms"]).stops_by == NoScheduler(type="none")
