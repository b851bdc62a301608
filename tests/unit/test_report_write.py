"""Writing, reading and finding reports, and the verb."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.report_sample import sample
from tests.unit.search_sample import sample as search_sample
from tutelage.cli.main import LOOK, Verb, main
from tutelage.cli.report import find_report, report
from tutelage.errors import ConfigError, StoreError
from tutelage.report import write
from tutelage.report.figures import Report
from tutelage.report.files import to_json
from tutelage.report.html import render
from tutelage.report.search.write import write_search_report
from tutelage.report.write import read_report, write_report

pytestmark = pytest.mark.unit


class Answers:
    """The part of a console that the verb uses."""

    def __init__(self) -> None:
        self.data: Any = None
        self.human = ""

    def result(self, data: Any, human: str = "") -> None:
        self.data, self.human = data, human


def runs_with_reports(home: Path, *names: str) -> Path:
    """Run folders whose reports are one second apart, the last one the newest."""
    for second, name in enumerate(names):
        folder = home / "runs" / name
        write_report(sample(), folder)
        os.utime(folder / "report.json", (second, second))
    return home / "runs"


def test_both_files_are_written_and_nothing_else(tmp_path: Path):
    """The folder is made; it holds the page and the same figures as JSON."""
    page = write_report(sample(), tmp_path / "new" / "run")
    assert page == tmp_path / "new" / "run" / "report.html"
    assert sorted(path.name for path in page.parent.iterdir()) == ["report.html", "report.json"]
    assert page.read_text(encoding="utf-8") == render(sample())
    assert read_report(page.parent) == sample()


def test_a_page_that_cannot_be_rendered_leaves_the_old_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Nothing is written before everything is rendered."""
    write_report(sample(), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def broken(_: Report) -> str:
        raise ValueError("broken")

    monkeypatch.setattr(write, "render", broken)
    with pytest.raises(ValueError, match="broken"):
        write_report(sample().model_copy(update={"title": "other"}), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_folder_that_is_a_file_is_an_error_with_its_name(tmp_path: Path):
    """The error names the folder and the fix."""
    (tmp_path / "taken").write_text("x")
    with pytest.raises(StoreError, match="taken") as caught:
        write_report(sample(), tmp_path / "taken")
    assert "tutelage report" in caught.value.fix


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        ("{", "the whole file"),
        ('{"title": 3}', "title"),
        (b"\xff\xfe", "report.json"),
    ],
)
def test_a_report_that_is_none_names_the_file_and_the_key(tmp_path: Path, content: Any, words: str):
    """Missing, cut, of another shape, not text."""
    if content is not None:
        (tmp_path / "report.json").write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(StoreError, match=words):
        read_report(tmp_path)


def test_a_report_is_found_by_run_by_folder_or_as_the_newest(tmp_path: Path):
    """No argument: the newest; a run id: below runs; a folder: as it stands."""
    runs = runs_with_reports(tmp_path, "b-run", "a-run")
    assert find_report(None, runs) == runs / "a-run"
    assert find_report("b-run", runs) == runs / "b-run"
    assert find_report(str(runs / "b-run"), tmp_path / "none") == runs / "b-run"


def test_an_unknown_run_is_answered_with_the_newest_ones(tmp_path: Path):
    """The error lists what there is, newest first."""
    runs = runs_with_reports(tmp_path, "one", "two")
    with pytest.raises(ConfigError, match=r"'three'.*two, one"):
        find_report("three", runs)


def test_no_runs_at_all(tmp_path: Path):
    """The first thing to do is said."""
    with pytest.raises(StoreError, match=r"no run with a report\.json") as caught:
        find_report(None, tmp_path / "runs")
    assert "quickstart" in caught.value.fix


def test_the_verb_renders_again_and_gives_all_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A deleted page comes back; --json is the report itself; the human answer is the path."""
    monkeypatch.setenv("TUTELAGE_HOME", str(tmp_path))
    runs = runs_with_reports(tmp_path, "run")
    (runs / "run" / "report.html").unlink()
    console = Answers()
    report(SimpleNamespace(obj=console))  # type: ignore[arg-type]
    assert console.human == str(runs / "run" / "report.html")
    assert (runs / "run" / "report.html").read_text(encoding="utf-8") == render(sample())
    assert console.data == json.loads(to_json(sample()))


def test_the_page_of_a_search_is_rendered_again_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A search is found among the runs by its name, and as the newest."""
    monkeypatch.setenv("TUTELAGE_HOME", str(tmp_path))
    runs = runs_with_reports(tmp_path, "run")
    page = write_search_report(search_sample(), runs / "search")
    for which in ("search", None):
        page.unlink()
        console = Answers()
        report(SimpleNamespace(obj=console), which)  # type: ignore[arg-type]
        assert console.human == str(page)
        assert page.exists()
        assert console.data == json.loads(to_json(search_sample()))


def test_open_shows_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """--open hands the page to the browser as a file URL."""
    seen: list[str] = []
    monkeypatch.setattr("webbrowser.open", seen.append)
    write_report(sample(), tmp_path)
    monkeypatch.setenv("TUTELAGE_HOME", str(tmp_path / "home"))
    report(SimpleNamespace(obj=Answers()), str(tmp_path), show=True)  # type: ignore[arg-type]
    assert seen == [(tmp_path / "report.html").as_uri()]


def test_through_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Figures on stdout and code 0; an unknown run is code 2 and nothing on stdout."""
    monkeypatch.setenv("TUTELAGE_HOME", str(tmp_path))
    runs_with_reports(tmp_path, "run")
    verbs = (Verb("report", "tutelage.cli.report:report", "Render a report again", LOOK),)
    out, err = io.StringIO(), io.StringIO()
    assert main(["report", "run", "--json"], stdout=out, stderr=err, verbs=verbs) == 0
    assert json.loads(out.getvalue()) == json.loads(to_json(sample()))
    out, err = io.StringIO(), io.StringIO()
    assert main(["report", "nun"], stdout=out, stderr=err, verbs=verbs) == 2
    assert out.getvalue() == ""
    assert "newest runs with one: run" in err.getvalue()
