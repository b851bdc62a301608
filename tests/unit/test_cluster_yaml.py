"""cluster.yaml against Ray's own schema, and what must not be missing from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.unit

FILE = Path(__file__).parents[2] / "cluster.yaml"


def load() -> dict[str, Any]:
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))


def validate(config: dict[str, Any]) -> dict[str, Any]:
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(config)
    validate_config(prepared)
    return prepared


def on_aws(config: dict[str, Any]) -> dict[str, Any]:
    """The file with the lines for AWS taken out of their comment."""
    text = FILE.read_text(encoding="utf-8")
    lines = text[text.index("# On AWS") :].splitlines()[1:]
    return {**config, **yaml.safe_load("\n".join(line.removeprefix("# ") for line in lines))}


def in_docker(config: dict[str, Any]) -> dict[str, Any]:
    text = FILE.read_text(encoding="utf-8")
    lines = text[text.index("# docker:") : text.index("# On AWS")].strip().splitlines()
    return {**config, **yaml.safe_load("\n".join(line.removeprefix("# ") for line in lines))}


def test_ray_accepts_the_file() -> None:
    """Own machines: one head and two workers."""
    prepared = validate(load())
    assert prepared["provider"]["type"] == "local"
    assert prepared["max_workers"] == 2


def test_ray_accepts_the_lines_for_aws() -> None:
    """The commented lines are a whole: uncommented they validate."""
    prepared = validate(on_aws(load()))
    assert prepared["available_node_types"]["gpu"]["resources"] == {"CPU": 8, "GPU": 1}
    assert prepared["head_node_type"] == "head"


def test_ray_accepts_the_lines_for_containers() -> None:
    """Shared memory for the object store is set, since Docker gives 64 MB."""
    prepared = validate(in_docker(load()))
    assert "--shm-size=10g" in prepared["docker"]["run_options"]


def test_a_wrong_key_would_be_found() -> None:
    """The schema is closed: this test can fail."""
    with pytest.raises(Exception, match="max_worker"):
        validate({**load(), "max_worker": 3})


@pytest.mark.parametrize("key", ["head_start_ray_commands", "worker_start_ray_commands"])
def test_every_node_starts_guarded_and_silent(key: str) -> None:
    """Token mode and no usage statistics on every node; the dashboard on loopback at the head."""
    command = load()[key][-1]
    assert "RAY_AUTH_MODE=token" in command
    assert "--disable-usage-stats" in command
    if key.startswith("head"):
        assert "--dashboard-host=127.0.0.1" in command


def test_every_node_gets_the_token_and_the_pinned_packages() -> None:
    """The token file is mounted and the installation is held to constraints.txt, which exists."""
    config = load()
    assert "~/.ray/auth_token" in config["file_mounts"]
    assert any("constraints.txt" in command for command in config["setup_commands"])
    assert (FILE.parent / "constraints.txt").is_file()
