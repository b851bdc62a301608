"""`tutelage models` and `tutelage runs` from the outside."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest

from tests.unit.registry_samples import card, model_folder
from tutelage.cli.main import Verb, main
from tutelage.files import home
from tutelage.registry import Registry, Version, open_registry
from tutelage.registry.tables import LeaseRow

pytestmark = pytest.mark.unit

VERBS = (
    Verb("models", "tutelage.cli.models:app", "", ""),
    Verb("runs", "tutelage.cli.runs:app", "", ""),
)


def call(*words: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    return main(words, stdout=out, stderr=err, verbs=VERBS), out.getvalue(), err.getvalue()


@pytest.fixture
def registry() -> Registry:
    return open_registry(home(), clock=lambda: 1_800_000_000.0)


@pytest.fixture
def version(registry: Registry, tmp_path: Path) -> Version:
    version = registry.versions.add("reviews", model_folder(tmp_path / "m"), card())
    registry.versions.set_alias("reviews", "champion", version.id, why="first", who="kim")
    return version


def test_ls_has_a_row_for_each_version(version: Version) -> None:
    code, out, _ = call("models", "ls")
    assert code == 0
    assert out.splitlines()[-1].split() == [version.ref, "champion", "2027-01-15", "08:00", "25", "B"]
    assert json.loads(call("models", "ls", "--json")[1])["versions"][0]["aliases"] == ["champion"]


def test_an_empty_registry_is_no_error() -> None:
    assert call("models", "ls")[:2] == (0, "no versions yet; `tutelage export JOB` records one\n")
    assert json.loads(call("models", "ls", "--json")[1]) == {"versions": []}
    assert call("runs", "ls")[:2] == (0, "no such runs\n")


def test_show_has_card_files_and_receipts(version: Version) -> None:
    data = json.loads(call("models", "show", "reviews@champion", "--json")[1])
    assert data["card"]["lineage"]["seed"] == 1
    assert data["files"]["model.onnx"] == {
        "blake3": version.manifest["model.onnx"].digest,
        "bytes": 7,
    }
    assert data["receipts"] == [
        {
            "at": "2027-01-15T08:00:00+00:00",
            "alias": "champion",
            "from": None,
            "to": version.id,
            "who": "kim",
            "why": "first",
        }
    ]
    page = call("models", "show", "reviews")[1]
    assert "seed: 1" in page
    assert f"champion -> {version.id}  by kim: first" in page


def test_an_unknown_version_is_a_usage_error_with_what_is_near(version: Version) -> None:
    code, _, err = call("models", "show", "reviws")
    assert code == 2
    assert "near: reviews" in err
    assert "tutelage models ls" in err


def test_verify_fails_where_a_file_is_damaged(registry: Registry, version: Version) -> None:
    assert call("models", "verify")[:2] == (0, "1 of 1 versions are whole\n")
    registry.artifacts.remove([version.manifest["model.onnx"].digest])
    code, out, _ = call("models", "verify", "reviews", "--json")
    assert code == 1
    answer = json.loads(out)
    assert answer["ok"] is False
    assert answer["versions"][version.ref][0].startswith("model.onnx: object")


def test_alias_moves_unless_it_only_plans(registry: Registry, version: Version, tmp_path: Path) -> None:
    other = registry.versions.add("reviews", model_folder(tmp_path / "o", b"other"), card())
    planned = json.loads(call("models", "alias", other.id, "champion", "--why", "x", "--plan", "--json")[1])
    assert (planned["from"], planned["to"]) == (version.id, other.id)
    assert registry.versions.aliases("reviews") == {"champion": version.id}
    code, out, _ = call("models", "alias", other.id, "champion", "--why", "won")
    assert (code, out) == (0, f"reviews@champion points at {other.id}, before at {version.id}\n")
    assert registry.versions.aliases("reviews") == {"champion": other.id}
    assert registry.versions.receipts("reviews")[0].why == "won"


def test_an_alias_needs_a_reason(version: Version) -> None:
    assert call("models", "alias", version.ref, "champion")[0] == 2


def test_gc_plan_removes_nothing(registry: Registry, version: Version, tmp_path: Path) -> None:
    stray = registry.artifacts.put_folder(model_folder(tmp_path / "s", b"stray"))["model.onnx"]
    path = home() / "artifacts" / "objects" / stray.digest[:2] / stray.digest[2:]
    os.utime(path, (0, 0))
    assert call("models", "gc", "--plan")[:2] == (0, "would remove 1 file, 5 B\n")
    assert path.exists()
    assert json.loads(call("models", "gc", "--json")[1])["objects"] == [stray.digest]
    assert not path.exists()
    assert call("models", "verify")[0] == 0


def test_runs_are_listed_shown_and_filtered(registry: Registry) -> None:
    registry.runs.start("d-1", "distill", "reviews", "name: reviews\n", digest="abc")
    registry.runs.start("f-1", "finetune", "reviews", "name: reviews\n", digest="abc")
    registry.runs.finish("d-1", "done", {"loss": 0.25, "accuracy": 0.83, "epochs": [1, 2]})
    answer = json.loads(call("runs", "ls", "--status", "done", "--json")[1])
    assert [(row["run"], row["figures"]["loss"]) for row in answer["runs"]] == [("d-1", 0.25)]
    assert "0.250" in call("runs", "ls", "--kind", "distill")[1]
    assert call("runs", "show", "d-1", "--config")[1] == "name: reviews\n"
    shown = call("runs", "show", "d-1")[1]
    assert "status: done" in shown
    # One command trains it again, from the job that is kept.
    again = "tutelage runs show d-1 --config > d-1.yaml && tutelage distill d-1.yaml --fresh"
    assert f"again: {again}" in shown
    # An update takes data, which only a finished one has recorded: no command that would be refused is named.
    registry.runs.start("u-1", "update", "reviews", "name: reviews\n", digest="abc")
    assert json.loads(call("runs", "show", "u-1", "--json")[1])["again"] is None


def test_an_unknown_status_says_which_there_are() -> None:
    code, _, err = call("runs", "ls", "--status", "finished")
    assert code == 2
    assert "running, done, failed, interrupted" in err


def test_a_run_is_released_from_its_holder_who_is_named(registry: Registry) -> None:
    registry.runs.start("d-1", "distill", "reviews", "", digest="abc")
    code, out, _ = call("runs", "release", "d-1")
    assert code == 0
    assert f"d-1 was held by process {os.getpid()} on " in out
    assert json.loads(call("runs", "show", "d-1", "--json")[1])["status"] == "interrupted"
    code, _, err = call("runs", "release", "d-1")
    assert code == 3
    assert "is interrupted already" in err


def test_a_running_run_whose_heart_is_silent_shows_for_how_long(registry: Registry) -> None:
    registry.runs.start("d-1", "distill", "reviews", "", digest="abc")
    assert "running  " in call("runs", "ls")[1]
    with registry.database.touch() as session:
        lease = session.get(LeaseRow, "d-1")
        assert lease is not None
        lease.beat = registry.database.now(session) - 125
    assert "running, silent 2 min 05 s" in call("runs", "ls")[1]
