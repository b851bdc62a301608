"""`tutelage tune` on the tiny job, whose teachers are made: search, winner, version, and what it leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.e2e.conftest import Story
from tests.e2e.e2e_samples import DOMAINS, Answer
from tutelage.config.load import load_job

pytestmark = pytest.mark.e2e

SETTINGS = (
    # Another rate than the job's own, so that the winner is another student than the quickstart's.
    'search.space={"train.lr": {type: choice, values: [2.0e-3, 1.0e-2]}}',
    "search.searcher={type: grid}",
    "search.trials=2",
    "search.budget={max_steps: 20}",
    "search.reports=2",
    "search.warm_start=false",
    "train.epochs=1",
    "train.checkpoint_every=null",
)


@pytest.fixture(scope="module")
def tuned(story: Story) -> Answer:
    """The command's end."""
    found = story.cli.run("tune", story.job, *SETTINGS, "--json")
    assert found.code == 0, found.err[-3000:]
    return found


def folder_of(story: Story, found: dict[str, Any]) -> Path:
    return story.cli.home / "runs" / found["search"]


def test_no_teacher_is_asked_again_and_every_trial_has_its_figures(story: Story, tuned: Answer) -> None:
    found = tuned.json
    assert found["texts_scored"] == dict.fromkeys(DOMAINS, 0)
    assert [(trial["status"], trial["steps"]) for trial in found["trials"]] == [("done", 20), ("done", 20)]
    table = pq.read_table(folder_of(story, found) / "trials.parquet").to_pylist()
    assert [row["value.train.lr"] for row in table] == ["0.002", "0.01"]
    assert {row["id"]: row["accuracy"] for row in table} == {
        trial["id"]: trial["accuracy"] for trial in found["trials"]
    }


def test_the_winner_is_trained_on_the_full_budget_and_its_version_knows_its_search(
    story: Story, tuned: Answer
) -> None:
    found = tuned.json
    winner = found["winner"]
    best = next(trial for trial in found["trials"] if trial["id"] == found["best"])
    run = story.cli.run("runs", "show", winner["run"], "--json").json
    assert (run["parent"], run["status"]) == (found["search"], "done")
    assert run["figures"]["steps"] == 70  # all of the epoch, where its trial had 20 steps
    assert load_job(folder_of(story, found) / "winner.yaml").job.train.lr == best["values"]["train.lr"]
    lineage = story.cli.run("models", "show", winner["version"], "--json").json["card"]["lineage"]
    assert (lineage["search"], lineage["trial"], lineage["run_id"]) == (
        found["search"],
        found["best"],
        winner["run"],
    )
    assert set(lineage["teachers"]) == set(DOMAINS)
    assert winner["test_accuracy"] is not None


def test_the_command_that_it_prints_makes_the_winner_again(story: Story, tuned: Answer) -> None:
    """It finds the very run, so it trains nothing."""
    verb, *words = tuned.json["winner"]["command"].split()[1:]
    again = story.cli.run(verb, *words, "--json")
    assert again.code == 0, again.err[-3000:]
    assert again.json["run"] == tuned.json["winner"]["run"]


def test_a_changed_search_is_not_resumed_and_the_same_one_has_nothing_to_do(
    story: Story, tuned: Answer
) -> None:
    changed = story.cli.run("tune", story.job, *SETTINGS, "search.trials=3", "--resume")
    assert changed.code == 2
    assert "search.trials: 2 -> 3" in changed.err
    before = (folder_of(story, tuned.json) / "trials.jsonl").read_text()
    same = story.cli.run("tune", story.job, *SETTINGS, "--resume", "--trials-only", "--json")
    assert same.code == 0, same.err[-3000:]
    assert same.json["best"] == tuned.json["best"]
    assert (folder_of(story, tuned.json) / "trials.jsonl").read_text() == before
    kept = json.loads((folder_of(story, tuned.json) / "search.json").read_text())
    assert kept["winner"] == tuned.json["winner"]
