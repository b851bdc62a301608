"""`tutelage quickstart` on a tiny job: everything in its report is there, and nothing is done twice."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Story
from tests.e2e.e2e_samples import DOMAINS, ROWS

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def report(story: Story) -> dict[str, Any]:
    """The JSON on stdout."""
    assert story.first.code == 0, story.first.err[-3000:]
    found: dict[str, Any] = story.first.json
    return found


def _page(story: Story, report: dict[str, Any]) -> Path:
    return story.cli.home / "runs" / report["run"] / "report.html"


def test_it_ends_well_and_leaves_no_process(story: Story, report: dict[str, Any]) -> None:
    """Exit code 0, and neither Ray nor Serve runs on."""
    assert story.first_left == []


def test_the_report_has_every_part(report: dict[str, Any]) -> None:
    """Data, curves, accuracies, combiner, sizes, latency, teachers, parity, lineage: none is empty."""
    assert {source["source"]: source["train"] for source in report["data"]} == dict.fromkeys(DOMAINS, ROWS)
    assert [(curve["name"], curve["kind"]) for curve in report["curves"]] == [
        ("books", "teacher"),
        ("shop", "teacher"),
        ("student", "student"),
    ]
    assert [len(curve["points"]) for curve in report["curves"]] == [140, 140, 630]
    assert [(row["model"], row["runtime"]) for row in report["accuracy"]] == [
        ("books", None),
        ("shop", None),
        ("uniform ensemble", None),
        ("validated combiner", None),
        ("student", "torch"),
        ("student", "onnx"),
        ("student", "int8"),
    ]
    assert all(set(row["by_slice"]) == set(DOMAINS) for row in report["accuracy"])
    assert set(report["combiner"]["weights"]) == set(DOMAINS)
    for key in ("sizes", "latency", "verdict", "stages", "machine", "versions", "lineage", "config_yaml"):
        assert report[key], key
    assert report["seconds"] > 0
    assert report["next_command"].startswith("tutelage ")


def test_teachers_know_their_domain_and_the_combiner_knows_it(report: dict[str, Any]) -> None:
    """Each teacher is good on its own domain alone; the validated combiner gives it the weight there."""
    accuracy = {(row["model"], row["runtime"]): row["by_slice"] for row in report["accuracy"]}
    for name, other in zip(DOMAINS, reversed(DOMAINS), strict=True):
        assert accuracy[name, None][name] >= 0.9
        assert accuracy[name, None][name] > accuracy[name, None][other]
        assert report["combiner"]["weights"][name][name] > 0.8
        assert accuracy["student", "torch"][name] >= 0.8


def test_each_teacher_scored_each_text_once(report: dict[str, Any]) -> None:
    """560 train texts in nine epochs: the stream asked for each one once."""
    assert {teacher["name"] for teacher in report["teachers"]} == set(DOMAINS)
    for teacher in report["teachers"]:
        assert teacher["examples"] == 2 * ROWS
        assert teacher["calls"] == 2 * ROWS // 8


def test_how_fast_each_teacher_was_is_kept_for_the_next_plan(story: Story, report: dict[str, Any]) -> None:
    """One figure for each teacher, of the training that asked it."""
    files = list((story.cli.home / "speeds").glob("*.json"))
    assert len(files) == len(DOMAINS)
    assert all(json.loads(file.read_text())["positions_s"] > 1 for file in files)


def test_streamed_scores_are_local_scores(report: dict[str, Any]) -> None:
    """The parity figure is within its tolerance, on some texts."""
    assert report["parity"]["ok"]
    assert report["parity"]["examples"] == 40
    assert report["parity"]["max_abs_diff"] < 1e-4


def test_the_endpoint_answered_with_the_version(story: Story, report: dict[str, Any]) -> None:
    """Every answer came from the version that was recorded, which keeps probes, with a label of the task."""
    assert re.fullmatch(r"tiny:[0-9a-f]+", report["version"])
    folder = story.cli.home / "versions" / report["version"].partition(":")[2]
    assert len(json.loads((folder / "probes.json").read_text())["texts"]) > 16
    assert report["endpoint"]["version"] in report["version"]
    assert len(report["endpoint"]["answers"]) > 0
    assert {answer["label"] for answer in report["endpoint"]["answers"]} <= {"negative", "positive"}
    assert all(0.5 <= answer["score"] <= 1 for answer in report["endpoint"]["answers"])


def test_the_page_stands_alone(story: Story, report: dict[str, Any]) -> None:
    """report.html needs nothing from anywhere: no link, script, image or font from outside itself."""
    html = _page(story, report).read_text()
    assert report["version"] in html
    loaded = re.findall(r"(?:src|href|xlink:href)\s*=\s*[\"']([^\"'#][^\"']*)", html)
    assert [place for place in loaded if not place.startswith("data:")] == []
    assert re.findall(r"@import|url\(\s*[\"']?(?!data:|#)", html) == []


def test_its_search_asks_no_teacher_and_leaves_its_page(story: Story, report: dict[str, Any]) -> None:
    """Four short trials read what the student's training has paid for."""
    (folder,) = (story.cli.home / "runs").glob("tiny-tune-*")
    found = json.loads((folder / "search.json").read_text())
    assert len([trial for trial in found["trials"] if trial["status"] in ("done", "stopped")]) == 4
    assert found["texts_scored"] == dict.fromkeys(DOMAINS, 0)
    assert found["best"] in {trial["id"] for trial in found["trials"]}
    assert (folder / "search.html").exists()


def test_the_version_and_runs_are_recorded(story: Story, report: dict[str, Any]) -> None:
    """`models ls` and `runs ls` know what the quickstart made."""
    models = story.cli.run("models", "ls", "--json")
    assert models.code == 0, models.err
    assert report["version"].partition(":")[2] in models.out
    runs = story.cli.run("runs", "ls", "--json")
    assert runs.code == 0, runs.err
    assert report["run"] in runs.out
    assert runs.out.count('"done"') >= 3


def test_a_second_quickstart_trains_nothing(story: Story, report: dict[str, Any]) -> None:
    """Teachers and student are reused: same run, version and curves, no stage of training, less time."""
    begin = time.monotonic()
    second = story.cli.run("quickstart", "--job", story.job, "--json")
    assert second.code == 0, second.err[-3000:]
    again = second.json
    assert time.monotonic() - begin < story.first_s
    for key in ("run", "version", "curves", "accuracy", "teachers"):
        assert again[key] == report[key], key
    names = {stage["name"] for stage in again["stages"]}
    assert "export" in names
    assert not names & {"finetune", "distill", "measure", "judge"}
