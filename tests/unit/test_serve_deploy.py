"""`tutelage deploy` before it starts anything: what it would serve, and with which settings."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from serve_apps.deploy import _problem
from tests.unit.serve_samples import version_folder
from tutelage.cli.deploy import read_order, sections
from tutelage.cli.main import Verb, main
from tutelage.errors import ConfigError, ModelError
from tutelage.files import home
from tutelage.registry.card import Lineage, VersionCard
from tutelage.registry.registry import open_registry

pytestmark = pytest.mark.unit

JOB = "name: films\nserve: {port: 0, replicas: 3, max_texts: 5}\nray: {address: 'old:6379'}\n"
VERB = Verb("deploy", "tutelage.cli.deploy:deploy", "", "")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return version_folder(tmp_path / "films")


@pytest.fixture
def recorded(folder: Path) -> str:
    """The id of a version in the registry of this test's home."""
    lineage = Lineage(
        run_id="films-1", job_digest="d", config_yaml=JOB, data_fingerprint="f", base_model="m", seed=0
    )
    card = VersionCard(task="sequence-classification", labels=["negative", "positive"], lineage=lineage)
    return open_registry(home()).versions.add("films", folder, card).id


def plan(*arguments: str) -> dict[str, Any]:
    out, err = io.StringIO(), io.StringIO()
    code = main(["deploy", *arguments, "--plan", "--json"], stdout=out, stderr=err, verbs=[VERB])
    assert code == 0, err.getvalue()
    return json.loads(out.getvalue())["plan"][0]


def test_a_recorded_version_is_served_as_its_job_says(recorded: str) -> None:
    """`serve` of the job counts; its port 0 and its Ray address belong to the training, not to now."""
    order = read_order("films", None, [])
    assert (order.version.name, order.version.id) == ("films", recorded)
    assert order.version.lineage["run"] == "films-1"
    assert (order.serve.replicas, order.serve.max_texts, order.serve.port) == (3, 5, 8000)
    assert order.ray.address is None
    assert (order.folder / "tutelage.json").is_file()


def test_the_command_line_stands_above_the_environment(
    recorded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """job < environment < command line."""
    monkeypatch.setenv("TUTELAGE__SERVE__REPLICAS", "4")
    monkeypatch.setenv("TUTELAGE__SERVE__MAX_BATCH", "2")
    monkeypatch.setenv("TUTELAGE__TRAIN__LR", "0.1")
    order = read_order("films", None, ["serve.replicas=7"])
    assert (order.serve.replicas, order.serve.max_batch) == (7, 2)


def test_plan_says_what_would_be_served(recorded: str) -> None:
    """Version, file, size, place; nothing is started."""
    row = plan("films", "--port", "0", "serve.variant=fp32", "--address", "head:6379")
    assert row["version"] == f"films:{recorded}"
    assert row["file"].endswith("model.onnx")
    assert row["bytes"] > 0
    assert row["listens on"] == "127.0.0.1:a free port"
    assert row["ray"] == "head:6379"
    assert row["cpus"] == 3


def test_a_folder_is_served_without_a_registry(folder: Path) -> None:
    """Its name is the folder's, its id the digest of its files."""
    first = plan("--folder", str(folder))
    assert first["version"].startswith("films:")
    (folder / "config.json").write_text('{"pad_token_id": 1}')
    assert plan("--folder", str(folder))["version"] != first["version"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((None, None, []), "needs a version or --folder"),
        (("nope", None, []), "no version 'nope'"),
        (("films@canary", None, []), "no alias 'canary'"),
        (("films", None, ["serve.replica=2"]), "did you mean 'replicas'"),
        (("films", None, ["serve.replicas=none"]), r"serve\.replicas: "),
        (("films", None, ["serve.port=70000"]), r"serve\.port: "),
        (("films", None, ["train.lr=1"]), "unknown key 'train'"),
        (("films", None, ["serve.replicas"]), "is not KEY=VALUE"),
    ],
)
def test_what_cannot_be_meant_is_refused(recorded: str, arguments: Any, says: str) -> None:
    """Each wrong word is named, with what is allowed."""
    with pytest.raises(ConfigError, match=says):
        read_order(*arguments)


def test_a_folder_without_an_export_is_refused(tmp_path: Path) -> None:
    """The plan reads tutelage.json, so the mistake shows before Ray starts."""
    with pytest.raises(ModelError, match=r"holds no tutelage\.json"):
        read_order(None, tmp_path, []).plan()


def test_settings_without_a_job_are_the_defaults() -> None:
    """The port of the documentation, on loopback."""
    serve, ray = sections({}, [])
    assert (serve.host, serve.port, serve.variant) == ("127.0.0.1", 8000, "int8")
    assert ray.address is None


def test_down_needs_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """On this machine there is nothing detached to take down."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    out, err = io.StringIO(), io.StringIO()
    assert main(["deploy", "--down"], stdout=out, stderr=err, verbs=[VERB]) == 2
    assert "--down needs a cluster" in err.getvalue()


class Deployment:
    def __init__(self, message: str) -> None:
        self.message = message


class App:
    def __init__(self, message: str, *deployments: str) -> None:
        self.message = message
        self.deployments = {str(n): Deployment(text) for n, text in enumerate(deployments)}


TRACE = """Failed to start replica:
  File "predictor.py", line 44, in __init__
    raise ModelError(
tutelage.errors.ModelError: /v has no int8 file
  fix: set serve.variant to fp32
"""


def test_the_replicas_own_exception_is_found_in_serves_message() -> None:
    """Problem and fix of the replica, out of a traceback."""
    assert _problem(App("short", TRACE)) == ("ModelError: /v has no int8 file", "set serve.variant to fp32")
    assert _problem(App("waiting for\n  2 CPUs")) == ("waiting for 2 CPUs", "")
    assert _problem(None) == ("", "")
