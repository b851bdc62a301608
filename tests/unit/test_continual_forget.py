"""A version that forgets an example, and the proof; what still holds it is named."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from tutelage.continual.forget import forget, holders, text_id
from tutelage.continual.replay import Buffer, Item, load, save, traces
from tutelage.continual.state import About, State
from tutelage.data.checks import text_digest
from tutelage.errors import DataError
from tutelage.files import digest_file

pytestmark = pytest.mark.unit

TEXTS = [f"this is the text of customer number {n}" for n in range(12)]


@pytest.fixture
def version(tmp_path: Path) -> Path:
    """Replay has texts 0 to 7, held-out rows are 6 to 11."""
    folder = tmp_path / "version"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    about = About(digest_file(folder / "model.safetensors"), ["a", "b"], 1, None)
    state = State.begin(folder, about)
    buffer = Buffer(100_000, seed=1)
    buffer.add(Item(text_digest(t), "mail", {"text": t}, label="a", logits=[1.0, 2.0]) for t in TEXTS[:8])
    save(buffer, state.replay)
    table = pa.table({"text": TEXTS[6:], "label": ["b"] * 6})
    parquet.write_table(table, state.heldout / "mail.test.parquet")
    state.close()
    return folder


@pytest.mark.parametrize(("number", "replayed", "heldout"), [(2, 1, 0), (10, 0, 1), (7, 1, 1)])
def test_an_example_is_gone_from_all_that_a_version_remembers(
    version: Path, tmp_path: Path, number: int, replayed: int, heldout: int
) -> None:
    text = TEXTS[number]
    assert traces(version / "state", [text_id(text), text])  # there is something to find
    found = forget(version, tmp_path / "after", [text_id(text)])
    assert (found.replayed, found.heldout, found.traces) == (replayed, heldout, ())
    assert traces(tmp_path / "after" / "state", [text_id(text), text]) == []
    state = State.read(tmp_path / "after")
    assert state is not None
    assert len(load(state.replay)) == 8 - replayed
    assert parquet.read_table(state.heldout / "mail.test.parquet").num_rows == 6 - heldout
    assert (tmp_path / "after" / "model.safetensors").read_bytes() == b"weights"


def test_the_version_before_is_not_touched_and_is_named(version: Path, tmp_path: Path) -> None:
    wanted = text_id(TEXTS[7])
    forget(version, tmp_path / "after", [wanted])
    both = {"old": version, "new": tmp_path / "after", "bare": tmp_path}
    assert holders(both, [wanted]) == ["old"]
    assert holders(both, [text_id(TEXTS[11])]) == ["old", "new"]


def test_an_unknown_example_and_a_version_without_state_are_refused(version: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of 1 ids"):
        forget(version, tmp_path / "after", ["nobody"])
    assert not (tmp_path / "after").exists()
    (tmp_path / "plain").mkdir()
    with pytest.raises(DataError, match="has no state"):
        forget(tmp_path / "plain", tmp_path / "after", ["nobody"])
