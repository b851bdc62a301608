"""`tutelage deploy` before it starts anything: what it would serve, and with which settings."""

from __future__ import annotations

import io
import json
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from serve_apps.ray_serve import check_haproxy, find_problem, read_app
from serve_apps.schemas import VersionRef
from serve_apps.targets import DEPLOYMENT, Target
from tests.unit.serve_samples import version_folder
from tutelage.cli.deploy import read_order, sections
from tutelage.cli.main import Verb, main
from tutelage.config.runtime import ServeConfig
from tutelage.errors import ConfigError, ModelError, ServeError
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


@pytest.mark.parametrize("arguments", [["undeploy", "films"], ["endpoints", "ls"]])
def test_endpoints_that_stay_are_those_of_a_cluster(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On this machine there is nothing detached to list, or to take down."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    out, err = io.StringIO(), io.StringIO()
    assert main(arguments, stdout=out, stderr=err) == 2
    assert "give --address" in err.getvalue()


def test_an_endpoint_has_a_name_and_a_route(recorded: str, tmp_path: Path) -> None:
    """The model's name and what it has already, unless they are given."""
    assert (plan("films")["endpoint"], plan("films")["route"]) == ("films", "the one it has, else /films")
    given = plan("films", "--name", "cinema", "--route", "/")
    assert (given["endpoint"], given["route"]) == ("cinema", "/")
    odd = version_folder(tmp_path / "films of #1")
    with pytest.raises(ConfigError, match="endpoint name 'films of #1' is not allowed"):
        read_order(None, odd, [])
    assert read_order(None, odd, [], name="films-1").name == "films-1"


TRACE = """Failed to start replica:
  File "predictor.py", line 44, in __init__
    raise ModelError(
tutelage.errors.ModelError: /v has no int8 file
  fix: set serve.variant to fp32
"""


def test_the_replicas_own_exception_is_found_in_serves_message() -> None:
    """Problem and fix of the replica, out of a traceback."""
    assert find_problem(["short", TRACE]) == ("ModelError: /v has no int8 file", "set serve.variant to fp32")
    assert find_problem(["waiting for\n  2 CPUs"]) == ("waiting for 2 CPUs", "")
    assert find_problem([""]) == ("", "")


class State(StrEnum):
    """Of a string as a value, as Serve's own."""

    RUNNING = "RUNNING"


def details(name: str, **config: Any) -> dict[str, Any]:
    """An application with one deployment, as Serve describes it."""
    replicas = [{"state": State.RUNNING}, {"state": "STARTING"}]
    deployment = {"message": "", "deployment_config": config, "replicas": replicas}
    return {
        "status": State.RUNNING,
        "message": "",
        "route_prefix": "/films",
        "deployments": {name: deployment},
    }


def test_an_endpoint_is_known_by_what_serve_keeps_of_it() -> None:
    """Target, route and living replicas; an application of others is theirs, also with a target inside."""
    version = VersionRef(name="films", id="aa")
    target = Target(name="films", route="/films", folder="/v", version=version, config=ServeConfig())
    kept = json.loads(json.dumps(target.model_dump(mode="json")))
    own = read_app("films", details(DEPLOYMENT, user_config=kept))
    assert (own.ours, own.target, own.route, own.replicas) == (True, target, "/films", 1)
    assert own.state == "RUNNING"
    older = read_app("films", details(DEPLOYMENT, user_config={"name": "films"}))
    assert (older.ours, older.target, older.replicas) == (True, None, 1)
    assert not read_app("films", details("Model")).ours
    both = details("Model")
    both["deployments"] |= details(DEPLOYMENT, user_config=kept)["deployments"]
    assert not read_app("films", both).ours


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "10.0.0.7"])
def test_haproxy_mode_on_one_interface_is_refused(host: str) -> None:
    """Serve binds HAProxy's statistics to all interfaces, whatever host it was given."""
    env = {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_HAPROXY_STATS_PORT": "8505"}
    with pytest.raises(ServeError, match=r"opens ports 8505 and 9101") as caught:
        check_haproxy(host, env)
    assert "unset RAY_SERVE_ENABLE_HA_PROXY" in caught.value.fix
    check_haproxy(host, {})
    check_haproxy("0.0.0.0", env)  # noqa: S104 (never bound)
