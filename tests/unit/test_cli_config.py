"""`tutelage config check|show|schema` from the outside."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from tests.unit import config_sample as sample
from tutelage.cli.main import main
from tutelage.config.load import job_digest, load_job

pytestmark = pytest.mark.unit


def call(*words: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    return main(["config", *words], stdout=out, stderr=err), out.getvalue(), err.getvalue()


@pytest.fixture
def job(tmp_path: Path) -> str:
    return str(sample.write(tmp_path))


def test_check_says_what_the_job_is(job: str) -> None:
    digest = job_digest(load_job(job).job)
    assert call("check", job) == (
        0,
        f"ok  {job}: 2 teachers, 2 sources, 2 labels, digest {digest[:12]}\n",
        "",
    )
    answer = json.loads(call("check", job, "--json")[1])
    assert answer["digest"] == digest
    assert answer["teachers"] == ["one", "two"]


def test_check_takes_overrides_and_gives_every_problem_as_json(job: str) -> None:
    code, out, err = call("check", job, "train.lr=x", "trian.lr=1", "--json")
    assert code == 2
    assert json.loads(out)["error"]["problems"] == [
        {"key": "", "text": "unknown key 'trian'; did you mean 'train'?", "origin": "command line"},
        {
            "key": "train.lr",
            "text": "x is not allowed; wants a number above 0 and below 1, or a mapping with type linear, "
            "cosine, exponential or step",
            "origin": "command line",
        },
    ]
    assert "2 problems" in err


def test_what_show_prints_is_a_job(job: str, tmp_path: Path) -> None:
    code, out, _ = call("show", job, "train.lr=0.01")
    assert code == 0
    again = tmp_path / "again.yaml"
    again.write_text(out)
    assert load_job(again).job == load_job(job, ["train.lr=0.01"]).job


def test_show_says_the_origin_of_each_value(job: str) -> None:
    _, out, _ = call("show", job, "train.lr=0.01", "--origin")
    lines = [line.split("#") for line in out.splitlines()]
    found = {left.strip(): right[0].strip() for left, *right in lines if right}
    assert found["lr: 0.01"] == "command line"
    assert found["epochs: 2"] == f"{job}:21"
    assert found["batch_size: 32"] == "default"
    answer = json.loads(call("show", job, "--origin", "--json")[1])
    assert answer["origin"]["train.epochs"] == f"{job}:21"
    assert answer["job"]["train"]["epochs"] == 2


def test_schema_is_json_with_and_without_the_flag() -> None:
    assert json.loads(call("schema")[1]) == json.loads(call("schema", "--json")[1])


def test_a_missing_file_is_exit_code_2(tmp_path: Path) -> None:
    code, out, err = call("check", str(tmp_path / "none.yaml"))
    assert (code, out) == (2, "")
    assert "there is no file" in err
