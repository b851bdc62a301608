"""Versions: immutable, found by many names, moved with receipts, never half there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import update

from tests.unit.registry_samples import card, model_folder
from tutelage.errors import ConfigError, StoreError
from tutelage.registry import ArtifactStore, Database, Registry, Versions, open_registry
from tutelage.registry.tables import VersionRow

pytestmark = pytest.mark.unit

NOW = 1_800_000_000.0


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    monkeypatch.delenv("TUTELAGE_DB", raising=False)
    monkeypatch.delenv("TUTELAGE_ARTIFACTS", raising=False)
    registry = open_registry(tmp_path / "home", clock=lambda: NOW)
    yield registry
    registry.database.close()


@pytest.fixture
def versions(registry: Registry) -> Versions:
    return registry.versions


def test_a_version_comes_back_as_it_was_added(versions: Versions, tmp_path: Path) -> None:
    added = versions.add("reviews", model_folder(tmp_path / "m"), card())
    found = versions.get(added.ref)
    assert found == added
    assert (len(found.id), found.created, found.bytes) == (12, NOW, 7 + 18)
    assert (versions.folder(found) / "model.onnx").read_bytes() == b"weights"
    assert versions.verify(found) == []


def test_the_same_content_and_lineage_is_the_same_version(versions: Versions, tmp_path: Path) -> None:
    first = versions.add("reviews", model_folder(tmp_path / "a"), card())
    again = versions.add("reviews", model_folder(tmp_path / "b"), card(accuracy=0.1))
    assert again == first
    assert len(versions.list()) == 1


def test_other_weights_or_another_lineage_is_another_version(versions: Versions, tmp_path: Path) -> None:
    ids = {
        versions.add("reviews", model_folder(tmp_path / "a"), card()).id,
        versions.add("reviews", model_folder(tmp_path / "b", b"other"), card()).id,
        versions.add("reviews", model_folder(tmp_path / "c"), card(seed=2)).id,
    }
    assert len(ids) == 3


def test_the_id_is_a_function_of_content_alone(versions: Versions, tmp_path: Path) -> None:
    assert versions.add("reviews", model_folder(tmp_path / "m"), card()).id == "194e4f7dfccb"


def test_a_bare_name_is_the_newest_until_there_is_a_champion(versions: Versions, tmp_path: Path) -> None:
    old = versions.add("reviews", model_folder(tmp_path / "a"), card())
    new = versions.add("reviews", model_folder(tmp_path / "b", b"other"), card())
    assert versions.get("reviews") == new
    versions.set_alias("reviews", "champion", old.id[:6], why="it won")
    assert versions.get("reviews") == old
    assert versions.get("reviews@champion") == old
    assert versions.get(f"reviews:{new.id[:5]}") == new
    assert versions.get(new.id[:8]) == new


def test_an_ambiguous_ref_lists_its_candidates(versions: Versions, tmp_path: Path) -> None:
    one = versions.add("reviews", model_folder(tmp_path / "a"), card())
    two = versions.add("spam", model_folder(tmp_path / "a"), card())
    assert one.id == two.id
    with pytest.raises(ConfigError, match=f"ambiguous: reviews:{one.id}, spam:{one.id}"):
        versions.get(one.id)
    assert versions.get(f"spam:{one.id[:4]}") == two


@pytest.mark.parametrize(
    ("ref", "words"),
    [
        ("review", "no version 'review'; near: reviews"),
        ("reviws@champion", "no version 'reviws'; near: reviews"),
        ("reviews@champ", "'reviews' has no alias 'champ', only champion"),
        ("reviews:000000000000", "no version 'reviews:000000000000'"),
        ("reviews:", "ambiguous"),
    ],
)
def test_an_unknown_ref_says_what_is_near(versions: Versions, tmp_path: Path, ref: str, words: str) -> None:
    first = versions.add("reviews", model_folder(tmp_path / "a"), card())
    versions.set_alias("reviews", "champion", first.id, why="first")
    with pytest.raises(ConfigError) as caught:
        versions.get(ref)
    assert words in caught.value.problem


def test_an_empty_registry_says_that_it_is_empty(versions: Versions) -> None:
    with pytest.raises(ConfigError, match="there are no versions yet"):
        versions.get("reviews")
    assert (versions.names(), versions.list(), versions.aliases("reviews")) == ([], [], {})


def test_every_move_of_an_alias_has_a_receipt(versions: Versions, tmp_path: Path) -> None:
    one = versions.add("reviews", model_folder(tmp_path / "a"), card())
    two = versions.add("reviews", model_folder(tmp_path / "b", b"other"), card())
    versions.set_alias("reviews", "champion", one.id, why="first", who="kim")
    versions.set_alias("reviews", "champion", two.id, why="won the canary", who="lee")
    assert versions.aliases("reviews") == {"champion": two.id}
    moves = [(r.who, r.from_id, r.to_id, r.why, r.at) for r in versions.receipts("reviews")]
    assert moves == [
        ("lee", one.id, two.id, "won the canary", NOW),
        ("kim", None, one.id, "first", NOW),
    ]


def test_an_alias_cannot_point_to_nothing(versions: Versions, tmp_path: Path) -> None:
    versions.add("reviews", model_folder(tmp_path / "a"), card())
    with pytest.raises(ConfigError, match="no version"):
        versions.set_alias("reviews", "champion", "ffffffffffff", why="typo")
    assert (versions.aliases("reviews"), versions.receipts("reviews")) == ({}, [])


@pytest.mark.parametrize("name", ["Reviews", "", "a b", "a@b", "a:b", "../a", "x" * 64])
def test_names_that_a_ref_cannot_hold_are_refused(versions: Versions, tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="is not allowed"):
        versions.add(name, model_folder(tmp_path / "a"), card())


def test_a_kill_before_the_commit_leaves_no_version_and_only_garbage(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = registry.versions
    kept = versions.add("reviews", model_folder(tmp_path / "a"), card())
    with monkeypatch.context() as patch:
        patch.setattr("tutelage.registry.versions.version_id", _killed)
        with pytest.raises(KeyboardInterrupt):
            versions.add("reviews", model_folder(tmp_path / "b", b"other"), card())
    assert versions.list() == [kept]
    planned = versions.gc(plan=True, grace_s=-1e12)
    assert (len(planned.objects), planned.bytes) == (1, 5)
    assert versions.gc(grace_s=-1e12) == planned
    assert versions.gc(grace_s=-1e12).objects == []
    assert versions.verify(kept) == []


def _killed(*_: object) -> str:
    raise KeyboardInterrupt


def test_objects_of_a_version_that_is_just_being_added_are_not_collected(
    registry: Registry, tmp_path: Path
) -> None:
    manifest = registry.artifacts.put_folder(model_folder(tmp_path / "a"))
    path = next((tmp_path / "home" / "artifacts").rglob(manifest["model.onnx"].digest[2:]))
    for file in path.parent.parent.rglob("*"):
        os.utime(file, (NOW - 3599, NOW - 3599))
    assert registry.versions.gc().objects == []
    for file in path.parent.parent.rglob("*"):
        os.utime(file, (NOW - 3601, NOW - 3601))
    assert len(registry.versions.gc(plan=True).objects) == 2


def test_objects_collected_between_storing_and_recording_are_stored_again(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, put = registry.artifacts, registry.artifacts.put_folder
    calls = []

    def put_then_lose(folder: Path) -> object:
        manifest = put(folder)
        if not calls:
            store.remove([manifest["model.onnx"].digest])
        calls.append(folder)
        return manifest

    monkeypatch.setattr(store, "put_folder", put_then_lose)
    version = registry.versions.add("reviews", model_folder(tmp_path / "a"), card())
    assert registry.versions.verify(version) == []


def test_verify_names_a_lost_object_and_a_changed_manifest(registry: Registry, tmp_path: Path) -> None:
    version = registry.versions.add("reviews", model_folder(tmp_path / "a"), card())
    registry.artifacts.remove([version.manifest["model.onnx"].digest])
    assert "model.onnx: object" in registry.versions.verify(version)[0]
    with pytest.raises(StoreError, match="is missing"):
        registry.versions.folder(version)
    with registry.database.write() as session:
        session.execute(update(VersionRow).values(card=card(seed=9).model_dump_json()))
    assert "manifest or lineage was changed" in registry.versions.verify(registry.versions.get("reviews"))[-1]


def test_versions_live_behind_a_url_too(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'r.db'}")
    versions = Versions(database, ArtifactStore("memory://team"), tmp_path / "home")
    version = versions.add("reviews", model_folder(tmp_path / "a"), card())
    assert (versions.folder(version) / "model.onnx").read_bytes() == b"weights"
    assert versions.verify(version) == []
    assert versions.gc(grace_s=0).objects == []
    database.close()
