"""`tutelage update` on the tiny job's version: new data in, a judged candidate out, killed and gone on."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.e2e.conftest import Story
from tests.e2e.e2e_samples import Answer, Cli, until
from tutelage.continual.replay import load
from tutelage.testing import tiny_rows, tiny_texts

pytestmark = pytest.mark.e2e

FAST = (
    "update.train={epochs: 8, checkpoint_every: 20, lr: 5.0e-3, batch_size: 8, precision: fp32}",
    "update.train.cpus_per_worker=0.8",
    "update.regulariser={type: online-ewc, strength: 1.0, examples: 100}",
    "update.replay={kilobytes: 20, share: 0.5}",
    "update.gate={max_forgetting: 1.0, min_gain: -1.0}",
    "update.holdout=20",
)


@pytest.fixture(scope="module")
def cli(story: Story, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """Commands on a copy of the story's home; the version there was exported without a state."""
    folder = tmp_path_factory.mktemp("update")
    shutil.copytree(story.cli.home, folder / "home", symlinks=True)
    made = Cli(folder, folder / "home")
    yield made
    made.end()


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A third domain."""
    return str(tiny_rows(tmp_path_factory.mktemp("new"), 160, ["music"])["music"])


def words(new: str) -> list[str]:
    """The first update, of a version that has no state yet."""
    return ["update", "tiny", "--data", new, "--compute-state", *FAST, "--json"]


@pytest.fixture(scope="module")
def first(cli: Cli, new: str) -> Answer:
    """It is killed behind a checkpoint, and goes on."""
    command = cli.start(*words(new))

    def begun() -> bool:
        return any((cli.home / "runs").glob("*-update-*-l1/train/checkpoint_*"))

    until(begun, 200, "a checkpoint of the update")
    command.end()
    found = cli.run(*words(new))
    assert found.code == 0, found.err[-3000:]
    return found


def test_a_version_without_state_offers_to_compute_it(cli: Cli, new: str) -> None:
    found = cli.run("update", "tiny", "--data", new, "--plan")
    assert found.code == 2
    assert "--compute-state" in found.err


def test_an_update_is_a_version_with_parent_state_and_history(cli: Cli, first: Answer) -> None:
    answer = first.json
    assert answer["passed"]
    page = Path(answer["report"])
    assert answer["version"] in page.read_text(encoding="utf-8")
    page.unlink()
    assert cli.run("report", answer["run"], "--json").json["version"] == answer["version"]
    assert page.is_file()
    assert set(answer["before"]) == set(answer["after"]) == {"books", "shop", "music"}
    card = cli.run("models", "show", answer["version"], "--json").json
    assert card["card"]["lineage"]["parent"] == answer["parent"]
    assert card["aliases"] == ["challenger"]
    # The bare name still means what it was made from.
    assert cli.run("models", "show", "tiny", "--json").json["ref"] == answer["parent"]
    run = cli.run("runs", "show", answer["run"], "--json").json
    assert run["status"] == "done"
    assert run["again"].startswith(f"tutelage update {answer['parent']} --data")
    assert run["again"].endswith(" --compute-state --fresh")


def test_the_next_update_needs_neither_old_data_nor_old_runs(
    cli: Cli, story: Story, first: Answer, tmp_path: Path
) -> None:
    """Update N + 1 on another machine: only the registry and its artifacts are there."""
    elsewhere = Cli(tmp_path, tmp_path / "home")
    elsewhere.home.mkdir()
    for name in ("registry.db", "artifacts"):
        source = cli.home / name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, elsewhere.home / name)
    data = str(tiny_rows(tmp_path / "new", 120, ["radio"])["radio"])
    ref = first.json["version"]
    try:
        found = elsewhere.run("update", ref, "--data", data, *FAST, "update.gate.min_gain=1.0", "--json")
        assert found.code == 1, found.err[-3000:]  # nothing gains a whole point of accuracy
        version = elsewhere.run("models", "show", "tiny@rejected", "--json").json
        assert version["card"]["lineage"]["parent"] == ref
        folder = elsewhere.home / "runs" / version["run"] / "export"
        history = json.loads((folder / "state" / "state.json").read_text())["history"]
        assert [one["slices"] for one in history] == [["books", "shop"], ["music"], ["radio"]]
        assert set(history[-1]["accuracy"]) == {"books", "shop", "music", "radio"}
    finally:
        elsewhere.end()


def test_a_killed_update_goes_on_to_the_same_numbers(cli: Cli, new: str, first: Answer) -> None:
    """And so does one that is made again: the very same version."""
    whole = cli.run(*words(new), "--fresh")
    assert whole.code == 0, whole.err[-3000:]
    for key in ("before", "after", "run", "version"):
        assert first.json[key] == whole.json[key], key


def test_a_version_forgets_an_example_and_proves_it(cli: Cli, first: Answer) -> None:
    run = cli.home / "runs" / first.json["run"] / "export" / "state"
    item = next(iter(load(run / "replay")))
    found = cli.run("models", "forget", first.json["version"], "--id", item.id, "--json")
    assert found.code == 0, found.err
    answer = found.json
    assert (answer["replayed rows"], answer["traces"]) == (1, [])
    assert first.json["version"] in answer["still held by"]
    assert str(run.parent) in answer["caches"]
    card = cli.run("models", "show", answer["version"], "--json").json["card"]
    assert card["lineage"]["parent"] == first.json["version"]
    again = cli.run("models", "forget", answer["version"], "--id", item.id)
    assert again.code == 2
    assert "none of 1 ids" in again.err


def test_new_labels_need_grow_and_grown_versions_know_them(cli: Cli, first: Answer, tmp_path: Path) -> None:
    texts = [f"word{n % 7} neutral token{n % 5} {n}" for n in range(60)]
    path = tmp_path / "third.parquet"
    parquet.write_table(pa.table({"text": texts, "label": ["mixed"] * 60}), path)
    given = ["update", first.json["version"], "--data", str(path), *FAST]
    refused = cli.run(*given)
    assert refused.code == 2
    assert "mixed" in refused.err
    assert "update.grow=true" in refused.err
    found = cli.run(*given, "update.grow=true", "update.gate.max_forgetting=1.0", "--json")
    assert found.code == 0, found.err[-3000:]
    card = cli.run("models", "show", found.json["version"], "--json").json
    assert card["card"]["labels"] == ["negative", "positive", "mixed"]
    assert found.json["after"]["third"] > 0.5  # the only class of its slice was learned


def test_what_cannot_be_learned_is_refused_before_anything_is_trained(
    cli: Cli, first: Answer, tmp_path: Path
) -> None:
    unlabelled = tmp_path / "bare.parquet"
    parquet.write_table(pa.table({"text": [f"some text {n}" for n in range(40)]}), unlabelled)
    wrong = tmp_path / "wrong.parquet"
    parquet.write_table(pa.table({"body": ["a"], "stars": [1]}), wrong)
    begin = time.monotonic()
    bare = cli.run(
        "update", first.json["version"], "--data", str(unlabelled), "data.sources.bare.columns={label: null}"
    )
    assert (bare.code, "learn from itself alone" in bare.err) == (2, True)
    columns = cli.run("update", first.json["version"], "--data", str(wrong))
    assert columns.code == 2
    assert "text" in columns.err
    twins = cli.run("update", "tiny", "--data", "a/d.csv", "--data", "b/d.csv")
    assert (twins.code, "two are called 'd'" in twins.err) == (2, True)
    known = cli.run("update", "tinny", "--data", str(unlabelled))
    assert known.code == 2
    assert time.monotonic() - begin < 120


def test_a_task_incremental_stream_is_one_command(cli: Cli, story: Story, tmp_path: Path) -> None:
    """Two increments with classes of their own, from a file, with what other tests leave out.

    The words that stood for two classes stand for two others, which is easy where only those compete.
    """
    places = []
    for name, labels in (("colours", ["blue", "red"]), ("pets", ["cat", "dog"])):
        rows = tiny_texts(160, seed=len(places) + 7)
        renamed = [labels[row["label"] == "positive"] for row in rows]
        path = tmp_path / f"{name}.parquet"
        parquet.write_table(pa.table({"text": [row["text"] for row in rows], "label": renamed}), path)
        places.append(str(path))
    stream = tmp_path / "stream.yaml"
    stream.write_text(
        f"""
scenario: task
set:
  update.regulariser: {{type: kfac, strength: auto, attempts: 2, examples: 60, tolerance: 0.5}}
  update.replay: {{type: loss-aware, kilobytes: 20}}
increments:
  - {{data: {places[0]}, set: {{update.train.epochs: 6}}}}
  - {{data: {places[1]}}}
"""
    )
    # Not the bare name: other tests record versions of it in the same home.
    ref = story.first.json["version"]
    given = ["update", ref, "--stream", str(stream), "--compute-state", FAST[0], FAST[1], *FAST[4:]]
    found = cli.run(*given, "--json")
    assert found.code == 0, found.err[-3000:]
    answer = found.json
    assert set(answer["after"]) == {"books", "shop", "colours", "pets"}
    assert answer["after"]["pets"] > 0.8  # half would be chance
    assert answer["attempts"]
    assert answer["plain"] is not None
    assert len(answer["matrix"]) == 3
    run = cli.home / "runs" / answer["run"] / "export" / "state" / "state.json"
    about = json.loads(run.read_text())
    assert about["labels"] == ["negative", "positive", "blue", "red", "cat", "dog"]
    assert about["groups"] == [0, 0, 1, 1, 2, 2]
    assert about["measured"]["kind"] == "kfac"
