"""The file store: each content once, whole or not at all, checked whenever it is read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.unit.registry_samples import model_folder
from tutelage.errors import StoreError
from tutelage.registry import ArtifactStore
from tutelage.registry.artifacts import Entry, safe

pytestmark = pytest.mark.unit


@pytest.fixture(params=["path", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ArtifactStore]:
    if request.param == "path":
        yield ArtifactStore(tmp_path / "artifacts")
        return
    import fsspec

    root = f"memory://{uuid4().hex}"
    yield ArtifactStore(root)
    fsspec.filesystem("memory").store.clear()


def test_what_was_put_comes_back_bit_for_bit(store: ArtifactStore, tmp_path: Path) -> None:
    manifest = store.put_folder(model_folder(tmp_path / "in"))
    assert set(manifest) == {"model.onnx", "sub/labels.txt"}
    assert manifest["model.onnx"].size == 7
    out = store.materialise(manifest, tmp_path / "out")
    assert (out / "model.onnx").read_bytes() == b"weights"
    assert (out / "sub" / "labels.txt").read_text() == "negative\npositive\n"


def test_equal_files_are_stored_once(store: ArtifactStore, tmp_path: Path) -> None:
    first = store.put_folder(model_folder(tmp_path / "a"))
    second = store.put_folder(model_folder(tmp_path / "b"))
    assert first == second
    assert len(list(store.objects())) == 2


def test_an_empty_folder_is_refused(store: ArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no files to store"):
        store.put_folder(tmp_path)


def test_a_missing_object_is_named_and_nothing_appears(store: ArtifactStore, tmp_path: Path) -> None:
    manifest = store.put_folder(model_folder(tmp_path / "in"))
    store.remove([manifest["model.onnx"].digest])
    assert store.missing(manifest) == ["model.onnx"]
    assert store.problems(manifest)[0].startswith("model.onnx: object")
    with pytest.raises(StoreError, match="is missing"):
        store.materialise(manifest, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_object_is_found_and_putting_the_files_again_repairs_it(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "artifacts")
    manifest = store.put_folder(model_folder(tmp_path / "in"))
    digest = manifest["model.onnx"].digest
    damaged = tmp_path / "artifacts" / "objects" / digest[:2] / digest[2:]
    damaged.chmod(0o600)
    damaged.write_bytes(b"weightX")
    assert "is damaged" in store.problems(manifest)[0]
    with pytest.raises(StoreError, match="is damaged"):
        store.materialise(manifest, tmp_path / "out")
    store.put_folder(tmp_path / "in")
    assert store.problems(manifest) == []


def test_a_folder_that_was_changed_is_made_right_again(store: ArtifactStore, tmp_path: Path) -> None:
    manifest = store.put_folder(model_folder(tmp_path / "in"))
    out = store.materialise(manifest, tmp_path / "out")
    os.unlink(out / "model.onnx")
    (out / "extra").write_text("mine")
    store.materialise(manifest, out)
    assert sorted(path.name for path in out.rglob("*") if path.is_file()) == ["labels.txt", "model.onnx"]


def test_local_files_are_links_to_read_only_objects(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "artifacts")
    out = store.materialise(store.put_folder(model_folder(tmp_path / "in")), tmp_path / "out")
    status = (out / "model.onnx").stat()
    assert (status.st_nlink, status.st_mode & 0o222) == (2, 0)


def test_a_kill_while_an_object_is_written_leaves_no_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ArtifactStore(tmp_path / "artifacts")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            store.put_folder(model_folder(tmp_path / "in"))
    assert [one for one in store.objects() if one.digest] == []


@pytest.mark.parametrize("name", ["../up", "/etc/passwd", "a/../../b", "", "a\\b", "nul\0"])
def test_a_manifest_cannot_write_outside_its_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not a path inside the version"):
        safe(name)
    store = ArtifactStore(tmp_path / "artifacts")
    entry = store.put_folder(model_folder(tmp_path / "in"))["model.onnx"]
    with pytest.raises(StoreError):
        store.materialise({name: Entry(entry.digest, entry.size)}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_protocol_without_its_package_says_so() -> None:
    with pytest.raises(StoreError, match="nosuchprotocol"):
        ArtifactStore("nosuchprotocol://bucket")
