"""The state folder of a version: it comes back as it was written, and is believed only where it fits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tutelage.continual.state import FORMAT, About, Learned, State
from tutelage.errors import ConfigError, StoreError
from tutelage.files import digest_file

pytestmark = pytest.mark.unit


def version(folder: Path, weights: bytes = b"weights") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def about(folder: Path) -> About:
    return About(
        model=digest_file(folder / "model.safetensors"),
        labels=["schlecht", "schön"],
        seed=7,
        held={"type": "online-ewc", "gamma": 0.9},
        measured={"kind": "fisher", "mode": "exact", "examples": 100},
        history=[
            Learned("first", ["books"], {"books": 0.9}),
            Learned("second", ["tweets"], {"books": 0.8, "tweets": 0.7}, {"tweets": 0.5}),
        ],
    )


def closed(folder: Path) -> State:
    state = State.begin(version(folder), about(folder))
    state.close()
    return state


def written(folder: Path) -> Path:
    return folder / "state" / "state.json"


def test_a_closed_state_is_read_as_it_was_begun(tmp_path: Path) -> None:
    state = closed(tmp_path / "v1")
    again = State.read(tmp_path / "v1")
    assert again == state
    assert again is not None
    assert again.about.format == FORMAT
    assert again.about.history[1].before == {"tweets": 0.5}


def test_what_is_held_lies_below_the_state_folder(tmp_path: Path) -> None:
    state = closed(tmp_path / "v1")
    folder = tmp_path / "v1" / "state"
    assert state.folder == folder
    assert state.anchors == folder / "anchors.safetensors"
    assert state.replay == folder / "replay"
    assert state.heldout == folder / "heldout"
    assert state.heldout.is_dir()
    assert sorted(path.name for path in folder.iterdir()) == ["heldout", "state.json"]


def test_a_version_without_a_state_has_none(tmp_path: Path) -> None:
    assert State.read(version(tmp_path / "v1")) is None


def test_a_state_that_was_begun_and_not_closed_is_none(tmp_path: Path) -> None:
    """An export that is killed half-way leaves no state that could be believed."""
    folder = version(tmp_path / "v1")
    State.begin(folder, about(folder))
    assert State.read(folder) is None


def test_a_state_can_be_made_anew(tmp_path: Path) -> None:
    closed(tmp_path / "v1")
    version(tmp_path / "v1", b"other weights")
    closed(tmp_path / "v1")
    again = State.read(tmp_path / "v1")
    assert again is not None
    assert again.about.model == digest_file(tmp_path / "v1" / "model.safetensors")


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", "3", '"text"', "[]", "{}", '{"history": []}', '{"history": [{}]}', '{"history": 3}'],
)
def test_a_damaged_state_is_said_with_its_file(tmp_path: Path, text: str) -> None:
    closed(tmp_path / "v1")
    written(tmp_path / "v1").write_text(text, encoding="utf-8")
    with pytest.raises(StoreError, match=r"state\.json cannot be read") as found:
        State.read(tmp_path / "v1")
    assert found.value.fix == "restore the version from a copy"


def test_bytes_that_are_no_text_are_damage(tmp_path: Path) -> None:
    closed(tmp_path / "v1")
    written(tmp_path / "v1").write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(StoreError, match=r"state\.json cannot be read"):
        State.read(tmp_path / "v1")


@pytest.mark.parametrize("more", [{}, {"a_key_of_the_future": 1}], ids=["same keys", "more keys"])
def test_a_state_of_another_format_is_refused_by_its_number(tmp_path: Path, more: dict[str, int]) -> None:
    """Also where keys were added: it is not damaged, only newer."""
    closed(tmp_path / "v1")
    kept = json.loads(written(tmp_path / "v1").read_text(encoding="utf-8"))
    changed = {**kept, **more, "format": 3}
    written(tmp_path / "v1").write_text(json.dumps(changed), encoding="utf-8")
    with pytest.raises(StoreError, match="has format 3, this tutelage reads 2") as found:
        State.read(tmp_path / "v1")
    assert "--compute-state" in found.value.fix


def test_a_state_of_other_weights_is_refused_with_both_digests(tmp_path: Path) -> None:
    closed(tmp_path / "v1")
    old = digest_file(tmp_path / "v1" / "model.safetensors")
    version(tmp_path / "v1", b"other weights")
    new = digest_file(tmp_path / "v1" / "model.safetensors")
    with pytest.raises(ConfigError, match="importance measured on another model") as found:
        State.read(tmp_path / "v1")
    assert old[:12] in found.value.problem
    assert new[:12] in found.value.problem
    assert found.value.fix == "make it anew with --compute-state"


def test_a_version_that_lost_its_weights_is_said(tmp_path: Path) -> None:
    closed(tmp_path / "v1")
    (tmp_path / "v1" / "model.safetensors").unlink()
    with pytest.raises(StoreError, match=r"model\.safetensors") as found:
        State.read(tmp_path / "v1")
    assert found.value.fix


def test_a_copied_version_takes_its_state_along(tmp_path: Path) -> None:
    import shutil

    closed(tmp_path / "v1")
    shutil.copytree(tmp_path / "v1", tmp_path / "elsewhere")
    again = State.read(tmp_path / "elsewhere")
    assert again is not None
    assert again.about == about(tmp_path / "v1")
