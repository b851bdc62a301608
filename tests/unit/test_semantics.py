"""What the code means stands in every name by which its results are found again, beside all that decides."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from actors import workspace
from actors.update import importance
from actors.update.importance import Measurement
from actors.workspace import Workspace, distill_run, finetune_run, open_workspace
from tune_spaces.search import terms
from tutelage.config import JobConfig
from tutelage.config.load import WHERE_IT_RUNS, decided_by_stream, job_digest
from tutelage.config.runtime import StreamConfig
from tutelage.config.task import SequenceClassification
from tutelage.models import fingerprint
from tutelage.progress import Silent
from tutelage.testing import LABELS, tiny_classifier, tiny_rows

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    folder = tmp_path_factory.mktemp("semantics")
    rows = tiny_rows(folder / "rows", 30, ["books"])["books"]
    base = tiny_classifier(folder / "base")
    made = {"name": "made", "model": base, "finetune": {"data": {"books": {}}, "train": {"batch_size": 8}}}
    job = {
        "name": "named",
        "task": {"labels": list(LABELS)},
        "data": {
            "sources": {"books": {"path": rows, "splits": {"validation": 5, "test": 5}}},
            "max_tokens": 16,
        },
        "teachers": [made],
        "student": {"model": base},
        "objectives": [{"type": "kl"}],
    }
    return open_workspace(JobConfig.model_validate(job), folder, Silent())


def names(space: Workspace) -> dict[str, str]:
    """Every name that a result is found by."""
    base = space.student.folder
    task = SequenceClassification(labels=["a", "b"])
    return {
        "finetune": finetune_run(space, space.job.teachers[0]),
        "distill": distill_run(space, {"made": "f" * 16}),
        "teacher": fingerprint.fingerprint(base, base, 1, 2),
        "importance": Measurement(base, "d", task, "e", (1, 2), "fisher").identity,
    }


@pytest.mark.parametrize(
    ("places", "constant", "changed"),
    [
        ([workspace], "TRAINING", {"finetune", "distill"}),
        ([fingerprint], "SIGNALS", {"finetune", "distill", "teacher"}),
        ([importance], "IMPORTANCE", {"importance"}),
    ],
)
def test_another_meaning_gives_other_names(
    space: Workspace, monkeypatch: pytest.MonkeyPatch, places: list[Any], constant: str, changed: set[str]
) -> None:
    before = names(space)
    for place in places:
        monkeypatch.setattr(place, constant, 2)
    after = names(space)
    assert {key for key in before if before[key] != after[key]} == changed


def test_a_search_is_of_one_meaning(monkeypatch: pytest.MonkeyPatch, space: Workspace) -> None:
    searched: Any = SimpleNamespace(keys={}, base={})
    first = terms.terms_of(space, searched, [])
    monkeypatch.setattr(terms, "TRAINING", 2)
    second = terms.terms_of(space, searched, [])
    assert first.id != second.id
    assert second.differences(first.facts) == ["semantics.training: 1 -> 2"]


@pytest.mark.parametrize(
    ("key", "value", "decides"),
    [
        ("on_loss", "degrade", True),
        ("planner", {"link_mb_s": 3.0}, True),
        ("store", {"max_gb": 7.0}, True),
        ("store", {"flush_mb": 7.0}, False),
        ("window", 3, False),
        ("retries", 9, False),
        ("deadline_s", 9.0, False),
    ],
)
def test_what_the_stream_decides_is_part_of_a_name_and_how_fast_it_is_not(
    space: Workspace, key: str, value: Any, decides: bool
) -> None:
    stream = StreamConfig.model_validate({key: value})
    other = space.job.model_copy(update={"stream": stream})
    assert (job_digest(other) != job_digest(space.job)) is decides
    assert (decided_by_stream(other) != decided_by_stream(space.job)) is decides


def test_every_key_of_the_stream_is_one_or_the_other() -> None:
    """A new key is where it runs until somebody says that it decides."""
    place = WHERE_IT_RUNS["stream"]
    assert set(StreamConfig.model_fields) - set(place) == {"on_loss", "planner"}
    assert "max_gb" not in place["store"]
