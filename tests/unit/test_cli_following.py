"""The next command that an answer names can be pasted, and is named only where it is not refused."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.unit.advice import ROOT
from tutelage.cli.following import after_distill, check_export, command_of
from tutelage.config import JobConfig
from tutelage.config.load import load_job
from tutelage.config.task import CausalLM
from tutelage.errors import ConfigError

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def job() -> JobConfig:
    return load_job(ROOT / "examples" / "reviews.yaml", [], {}).job


def test_a_command_can_be_pasted() -> None:
    """A path with a space and a value with shell characters come through a shell as they were."""
    words = command_of("export", Path("my jobs/a.yaml"), ["task.labels=[no, yes]", "train.lr=3e-5"])
    assert shlex.split(words) == [
        *("tutelage", "export", "my jobs/a.yaml"),
        *("task.labels=[no, yes]", "train.lr=3e-5"),
    ]


def test_export_follows_distillation_only_where_it_is_not_refused(job: JobConfig, tmp_path: Path) -> None:
    file, config = Path("job.yaml"), tmp_path / "config.json"
    config.write_text('{"model_type": "bert"}')
    assert after_distill(job, file, ["seed=1"], tmp_path) == "tutelage export job.yaml seed=1"
    check_export(job, fix="")
    other = job.model_copy(update={"task": CausalLM(type="causal-lm")})
    assert after_distill(other, file, [], tmp_path) == ""
    config.write_text('{"model_type": "longformer"}')
    assert after_distill(job, file, [], tmp_path) == ""
    with pytest.raises(ConfigError, match="causal-lm"):
        check_export(other, fix="")
